using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>
/// A lock of an open file (fcntl F_OFD_SETLK, Linux 3.15): the kernel frees it with the last descriptor, in whatever way the process
/// ends. It keeps out those who ask for it and no other, so that a locked file can be read.
/// </summary>
internal static partial class FileLock
{
    private const int SetLock = 37;
    private const short WriteLock = 1;

    [StructLayout(LayoutKind.Sequential)]
    private struct Flock
    {
        internal short Type;
        internal short Whence;
        internal long Start;
        internal long Length;
        internal int Pid;
    }

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int FcntlNative(int fd, int command, ref Flock argument);

    /// <summary>Takes the lock of the whole file.</summary>
    /// <returns>False if another open file has it.</returns>
    internal static bool TryTake(SafeFileHandle handle, string what)
    {
        using var fd = new BorrowedFd(handle);
        var whole = new Flock { Type = WriteLock };
        if (FcntlNative(fd.Number, SetLock, ref whole) >= 0)
        {
            return true;
        }

        if (NativeError.Last is NativeError.EAGAIN or NativeError.EACCES)
        {
            return false;
        }

        NativeError.Check(-1, "fcntl(F_OFD_SETLK)", what);
        return false;
    }
}
