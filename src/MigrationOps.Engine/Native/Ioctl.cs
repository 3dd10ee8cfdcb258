using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>FIONREAD and SIOCOUTQ: how many bytes wait in a pipe or socket, in either direction.</summary>
internal static partial class Ioctl
{
    private const nuint BytesReadable = 0x541B;
    private const nuint BytesUnsent = 0x5411;

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    private static unsafe partial int IoctlNative(int fd, nuint request, int* argument);

    internal static unsafe int GetReadableBytes(SafeHandle handle, string what)
    {
        using var fd = new BorrowedFd(handle);
        int count;
        NativeError.Check(IoctlNative(fd.Number, BytesReadable, &count), "ioctl(FIONREAD)", what);
        return count;
    }

    /// <summary>Bytes that were written to a socket and that the other end's system has not taken.</summary>
    internal static unsafe int GetUnsentBytes(SafeHandle handle, string what)
    {
        using var fd = new BorrowedFd(handle);
        int count;
        NativeError.Check(IoctlNative(fd.Number, BytesUnsent, &count), "ioctl(SIOCOUTQ)", what);
        return count;
    }
}
