using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>FIONREAD: how many bytes wait in a pipe or socket.</summary>
internal static partial class Ioctl
{
    private const nuint BytesReadable = 0x541B;

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    private static unsafe partial int IoctlNative(int fd, nuint request, int* argument);

    internal static unsafe int GetReadableBytes(SafeHandle handle, string what)
    {
        using var fd = new BorrowedFd(handle);
        int count;
        NativeError.Check(IoctlNative(fd.Number, BytesReadable, &count), "ioctl(FIONREAD)", what);
        return count;
    }
}
