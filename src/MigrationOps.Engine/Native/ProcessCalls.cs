using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>geteuid(2) and pidfd_open(2).</summary>
internal static partial class ProcessCalls
{
    // The same number on every architecture that has it (Linux 5.3).
    private const long PidFdOpenCall = 434;

    [LibraryImport("libc", EntryPoint = "geteuid")]
    internal static partial uint GetEffectiveUserId();

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial long SystemCall(long number, long first, long second);

    /// <summary>A descriptor that becomes readable when the process ends; close-on-exec by its nature.</summary>
    /// <returns>Null if there is no such process, or it is not visible from here.</returns>
    internal static SafeFileHandle? TryOpenProcess(int pid)
    {
        long fd = pid > 0 ? SystemCall(PidFdOpenCall, pid, 0) : -1;
        return fd < 0 ? null : new SafeFileHandle((nint)fd, true);
    }
}
