using System.Collections;
using System.Globalization;
using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>
/// posix_spawn(3): a child in a session of its own, with exactly three descriptors and one more, every signal at its default.
/// .NET's Process passes on whatever of ours does not close on exec, and leaves SIGPIPE ignored.
/// </summary>
internal static partial class Spawn
{
    // Larger than posix_spawn_file_actions_t (80) and posix_spawnattr_t (336) of glibc and of musl.
    private const int OpaqueSize = 512;
    private const int SignalSetSize = 128;
    private const short SetSignalDefaults = 0x04;
    private const short SetSignalMask = 0x08;
    private const short SetSession = 0x80;
    private const int Extra = 3;
    private const int ReadOnlyFlag = 0;
    private const int NoHang = 1;
    private const long PidFdSendSignalCall = 424;

    [LibraryImport("libc", EntryPoint = "posix_spawn", StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int SpawnNative(int* pid, string path, byte* actions, byte* attributes, nint* arguments, nint* environment);

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_init")]
    private static unsafe partial int InitActions(byte* actions);

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_destroy")]
    private static unsafe partial int DestroyActions(byte* actions);

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_adddup2")]
    private static unsafe partial int AddDuplicate(byte* actions, int from, int to);

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_addopen", StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int AddOpen(byte* actions, int fd, string path, int flags, uint mode);

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_addclose")]
    private static unsafe partial int AddClose(byte* actions, int fd);

    [LibraryImport("libc", EntryPoint = "posix_spawnattr_init")]
    private static unsafe partial int InitAttributes(byte* attributes);

    [LibraryImport("libc", EntryPoint = "posix_spawnattr_destroy")]
    private static unsafe partial int DestroyAttributes(byte* attributes);

    [LibraryImport("libc", EntryPoint = "posix_spawnattr_setflags")]
    private static unsafe partial int SetFlags(byte* attributes, short flags);

    [LibraryImport("libc", EntryPoint = "posix_spawnattr_setsigdefault")]
    private static unsafe partial int SetDefaults(byte* attributes, byte* signals);

    [LibraryImport("libc", EntryPoint = "posix_spawnattr_setsigmask")]
    private static unsafe partial int SetMask(byte* attributes, byte* signals);

    [LibraryImport("libc", EntryPoint = "sigfillset")]
    private static unsafe partial int FillSet(byte* signals);

    [LibraryImport("libc", EntryPoint = "waitpid", SetLastError = true)]
    private static unsafe partial int WaitNative(int pid, int* status, int options);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial long SystemCall(long number, long first, long second, long third, long fourth);

    /// <summary>Starts a program.</summary>
    /// <param name="program">Its path.</param>
    /// <param name="arguments">Its arguments, without its own name.</param>
    /// <param name="output">Becomes its standard output and error; stays the caller's.</param>
    /// <param name="extra">Becomes its descriptor 3, or null for none; stays the caller's.</param>
    /// <returns>The process id. The caller reaps the child with <see cref="Reap"/>.</returns>
    /// <exception cref="Wire.WireException">The program cannot be started.</exception>
    internal static unsafe int Start(string program, IReadOnlyList<string> arguments, SafeHandle output, SafeHandle? extra)
    {
        byte* actions = stackalloc byte[OpaqueSize];
        byte* attributes = stackalloc byte[OpaqueSize];
        byte* signals = stackalloc byte[SignalSetSize];
        Check(InitActions(actions), program);
        Check(InitAttributes(attributes), program);
        try
        {
            using var outputFd = new BorrowedFd(output);
            using var extraFd = extra is null ? default : new BorrowedFd(extra);
            Check(AddOpen(actions, 0, "/dev/null", ReadOnlyFlag, 0), program);
            Check(AddDuplicate(actions, outputFd.Number, 1), program);
            Check(AddDuplicate(actions, outputFd.Number, 2), program);
            if (extra is not null)
            {
                Check(AddDuplicate(actions, extraFd.Number, Extra), program);
            }

            foreach (int fd in OpenOnExec().Where(fd => fd > 2 && (fd != Extra || extra is null)))
            {
                Check(AddClose(actions, fd), program);
            }

            // It fails for a null pointer only.
            _ = FillSet(signals);
            Check(SetDefaults(attributes, signals), program);
            new Span<byte>(signals, SignalSetSize).Clear();
            Check(SetMask(attributes, signals), program);
            Check(SetFlags(attributes, SetSignalDefaults | SetSignalMask | SetSession), program);
            return Start(program, arguments, actions, attributes);
        }
        finally
        {
            _ = DestroyActions(actions);
            _ = DestroyAttributes(attributes);
        }
    }

    /// <summary>Takes the child's end: its exit code, or 128 and the number of the signal that killed it; null while it runs.</summary>
    internal static unsafe int? Reap(int pid)
    {
        int status;
        int reaped = WaitNative(pid, &status, NoHang);
        return reaped == 0 ? null
            : reaped < 0 ? throw NativeError.From("waitpid", $"process {pid}", NativeError.Last)
            : (status & 0x7f) == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f);
    }

    /// <summary>Sends a signal to the process of a pidfd, which can be no other one. A process that has ended is no error.</summary>
    internal static void Signal(SafeHandle process, int signal)
    {
        using var fd = new BorrowedFd(process);
        _ = SystemCall(PidFdSendSignalCall, fd.Number, signal, 0, 0);
    }

    private static unsafe int Start(string program, IReadOnlyList<string> arguments, byte* actions, byte* attributes)
    {
        nint[] argv = [Marshal.StringToCoTaskMemUTF8(program), .. arguments.Select(Marshal.StringToCoTaskMemUTF8), 0];
        nint[] environment = [.. Environment.GetEnvironmentVariables().Cast<DictionaryEntry>()
            .Select(entry => Marshal.StringToCoTaskMemUTF8($"{entry.Key}={entry.Value}")), 0];
        try
        {
            fixed (nint* argvPointer = argv, environmentPointer = environment)
            {
                int pid;
                Check(SpawnNative(&pid, program, actions, attributes, argvPointer, environmentPointer), program);
                return pid;
            }
        }
        finally
        {
            foreach (nint text in argv.Concat(environment))
            {
                Marshal.FreeCoTaskMem(text);
            }
        }
    }

    // What whoever started us left open for its children; everything that .NET opens closes on exec.
    private static List<int> OpenOnExec()
    {
        var open = new List<int>();
        foreach (string entry in Directory.GetFileSystemEntries("/proc/self/fd"))
        {
            if (int.TryParse(Path.GetFileName(entry), CultureInfo.InvariantCulture, out int fd) && !Fcntl.ClosesOnExec(fd))
            {
                open.Add(fd);
            }
        }

        return open;
    }

    private static void Check(int error, string program)
    {
        if (error != 0)
        {
            throw NativeError.From("posix_spawn", program, error);
        }
    }
}
