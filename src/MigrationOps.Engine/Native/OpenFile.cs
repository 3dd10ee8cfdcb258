using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>open(2) of what exists already: files, devices, FIFOs.</summary>
internal static partial class OpenFile
{
    private const int ReadAndWrite = 2;
    private const int CloseOnExec = 0x80000;
    private const int NoControllingTerminal = 0x100;
    private const int NonBlocking = 0x800;

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenNative(string path, int flags);

    /// <summary>Opens an existing node for reading and writing, and gives the errno where that fails.</summary>
    internal static bool TryOpen(string path, out SafeFileHandle? handle, out int error)
    {
        int fd = OpenNative(path, ReadAndWrite | CloseOnExec | NoControllingTerminal);
        error = fd < 0 ? NativeError.Last : 0;
        handle = fd < 0 ? null : new SafeFileHandle(fd, true);
        return fd >= 0;
    }

    /// <summary>Opens an existing path. A FIFO without a peer does not hold the caller.</summary>
    internal static SafeFileHandle Existing(string path, FileAccess access)
    {
        int mode = access switch
        {
            FileAccess.Read => 0,
            FileAccess.Write => 1,
            _ => 2,
        };
        var handle = new SafeFileHandle((int)NativeError.Check(
            OpenNative(path, mode | CloseOnExec | NoControllingTerminal | NonBlocking), "open", path), true);
        try
        {
            // O_NONBLOCK was for open only: whoever gets the descriptor gets it as a plain open would have made it.
            Fcntl.SetBlocking(handle, path);
            return handle;
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }
}
