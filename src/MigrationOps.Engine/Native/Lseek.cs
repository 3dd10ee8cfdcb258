using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>lseek(2): the position of a descriptor, which splice(2) moves as well.</summary>
internal static partial class Lseek
{
    [LibraryImport("libc", EntryPoint = "lseek", SetLastError = true)]
    private static partial long LseekNative(int fd, long offset, int whence);

    private const int SeekData = 3;

    /// <summary>
    /// Where data begins at or behind an offset of a sparse file; null if there is none to the file's end. A file system that
    /// does not know holes gives the offset itself.
    /// </summary>
    internal static long? NextData(SafeHandle handle, long offset)
    {
        using var fd = new BorrowedFd(handle);
        long position = LseekNative(fd.Number, offset, SeekData);
        return position >= 0 ? position : NativeError.Last == NativeError.ENXIO ? null : offset;
    }

    internal static bool IsSeekable(SafeHandle handle)
    {
        using var fd = new BorrowedFd(handle);
        return LseekNative(fd.Number, 0, (int)SeekOrigin.Current) >= 0;
    }

    /// <summary>True if the end can be found by seeking; the position stays.</summary>
    internal static bool HasEnd(SafeHandle handle)
    {
        using var fd = new BorrowedFd(handle);
        long position = LseekNative(fd.Number, 0, (int)SeekOrigin.Current);
        return position >= 0 && LseekNative(fd.Number, 0, (int)SeekOrigin.End) >= 0 && LseekNative(fd.Number, position, (int)SeekOrigin.Begin) >= 0;
    }

    internal static long Seek(SafeHandle handle, long offset, SeekOrigin origin, string what)
    {
        using var fd = new BorrowedFd(handle);
        long position = LseekNative(fd.Number, offset, (int)origin);
        return position >= 0 ? position : throw NativeError.From("lseek", what, NativeError.Last);
    }
}
