using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>userfaultfd(2): may this user handle the page faults that the kernel takes too, as postcopy needs?</summary>
internal static partial class UserFaultFd
{
    private const long CallX64 = 323;
    private const long CallGeneric = 282;
    private const int CloseOnExecNonBlocking = 0x80000 | 0x800;
    private const int ReadWriteCloseOnExec = 2 | 0x80000;

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial long SystemCall(long number, long flags);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenNative(string path, int flags);

    internal static bool IsAllowed()
    {
        long fd = SystemCall(RuntimeInformation.ProcessArchitecture == Architecture.X64 ? CallX64 : CallGeneric, CloseOnExecNonBlocking);
        if (fd < 0)
        {
            fd = OpenNative("/dev/userfaultfd", ReadWriteCloseOnExec);
        }

        if (fd < 0)
        {
            return false;
        }

        new SafeFileHandle((nint)fd, true).Dispose();
        return true;
    }
}
