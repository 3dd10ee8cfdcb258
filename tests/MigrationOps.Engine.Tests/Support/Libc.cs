using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>Calls that tests need to bring about what the engine must survive.</summary>
internal static partial class Libc
{
    private const int OpenFilesLimit = 7;

    [StructLayout(LayoutKind.Sequential)]
    private struct ResourceLimit
    {
        public ulong Soft;
        public ulong Hard;
    }

    [LibraryImport("libc", EntryPoint = "socketpair", SetLastError = true)]
    private static unsafe partial int SocketPairNative(int domain, int type, int protocol, int* sockets);

    [LibraryImport("libc", EntryPoint = "getrlimit", SetLastError = true)]
    private static partial int GetLimit(int resource, out ResourceLimit limit);

    [LibraryImport("libc", EntryPoint = "setrlimit", SetLastError = true)]
    private static partial int SetLimit(int resource, in ResourceLimit limit);

    [LibraryImport("libc", EntryPoint = "setfsuid")]
    private static partial int SetFileSystemUserNative(uint uid);

    [LibraryImport("libc", EntryPoint = "mkfifo", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int MakeFifoNative(string path, uint mode);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenNative(string path, int flags);

    internal static unsafe (int First, int Second) SocketPair()
    {
        int* sockets = stackalloc int[2];
        Assert.Equal(0, SocketPairNative(1, 1 | 0x80000, 0, sockets));
        return (sockets[0], sockets[1]);
    }

    /// <summary>Runs an action while this process may open only so many more descriptors.</summary>
    internal static void WithFewDescriptors(int more, Action action)
    {
        Assert.Equal(0, GetLimit(OpenFilesLimit, out var limit));
        int highest = Directory.GetFileSystemEntries("/proc/self/fd").Max(path => int.Parse(Path.GetFileName(path)));

        // Holes below the limit would still be given out, so they are filled first.
        var fillers = new List<SafeFileHandle>();
        try
        {
            while (true)
            {
                int fd = OpenNative("/dev/null", 0x80000);
                fillers.Add(new SafeFileHandle(fd, true));
                if (fd > highest)
                {
                    highest = fd;
                    break;
                }
            }

            Assert.Equal(0, SetLimit(OpenFilesLimit, limit with { Soft = (ulong)(highest + 1 + more) }));
            action();
        }
        finally
        {
            Assert.Equal(0, SetLimit(OpenFilesLimit, limit));
            fillers.ForEach(filler => filler.Dispose());
        }
    }

    /// <summary>
    /// Runs an action as a user without rights to others' files: setfsuid(2) is for the calling thread alone, and the
    /// thread ends afterwards. Nothing changes for a user who is not root.
    /// </summary>
    internal static Exception? RecordAsNobody(Action action)
    {
        Exception? recorded = null;
        var thread = new Thread(() =>
        {
            _ = SetFileSystemUserNative(65534);
            recorded = Record.Exception(action);
        });
        thread.Start();
        thread.Join();
        return recorded;
    }

    /// <summary>Some descriptor to hand over. Opened by the system call, because the runtime locks what it opens.</summary>
    internal static SafeFileHandle OpenNull() => new(OpenNative("/dev/null", 0x80002), true);

    internal static void MakeFifo(string path) => Assert.Equal(0, MakeFifoNative(path, 0b110_000_000));
}
