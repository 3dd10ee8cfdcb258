using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>read(2), pread(2), write(2) and fsync(2) on any descriptor. Results below zero are returned, not thrown: the caller
/// knows what EAGAIN means for it.</summary>
internal static partial class FdIo
{
    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    private static unsafe partial nint ReadNative(int fd, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    private static unsafe partial nint WriteNative(int fd, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "pread", SetLastError = true)]
    private static unsafe partial nint ReadAtNative(int fd, byte* buffer, nuint count, long offset);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int FsyncNative(int fd);

    internal static unsafe nint Read(SafeHandle handle, Span<byte> buffer)
    {
        using var fd = new BorrowedFd(handle);
        fixed (byte* p = buffer)
        {
            return ReadNative(fd.Number, p, (nuint)buffer.Length);
        }
    }

    /// <summary>pread(2). A device node has regions at offsets that it cannot seek to.</summary>
    internal static unsafe nint ReadAt(SafeHandle handle, Span<byte> buffer, long offset)
    {
        using var fd = new BorrowedFd(handle);
        fixed (byte* p = buffer)
        {
            return ReadAtNative(fd.Number, p, (nuint)buffer.Length, offset);
        }
    }

    internal static unsafe nint Write(SafeHandle handle, ReadOnlySpan<byte> buffer)
    {
        using var fd = new BorrowedFd(handle);
        fixed (byte* p = buffer)
        {
            return WriteNative(fd.Number, p, (nuint)buffer.Length);
        }
    }

    internal static void Sync(SafeHandle handle, string what)
    {
        using var fd = new BorrowedFd(handle);
        NativeError.Check(FsyncNative(fd.Number), "fsync", what);
    }
}
