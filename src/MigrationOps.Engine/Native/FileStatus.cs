using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>What statx(2) says of a descriptor.</summary>
/// <param name="Mode">Type and permission bits.</param>
/// <param name="Inode">Number within the file system.</param>
/// <param name="Size">Bytes; 0 for what has none.</param>
/// <param name="Device">Major and minor number of the file system.</param>
internal readonly partial record struct FileStatus(ushort Mode, ulong Inode, long Size, ulong Device)
{
    // Offsets in struct statx, the same on every architecture.
    private const int StatxSize = 256;
    private const int EmptyPath = 0x1000;
    private const uint BasicStats = 0x7ff;

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true)]
    private static unsafe partial int StatxNative(int directory, byte* path, int flags, uint mask, byte* buffer);

    /// <summary>The status of a descriptor, or null with errno set if it is not open.</summary>
    internal static unsafe FileStatus? TryGet(SafeHandle handle)
    {
        using var fd = new BorrowedFd(handle);
        byte* buffer = stackalloc byte[StatxSize];
        byte nothing = 0;
        return StatxNative(fd.Number, &nothing, EmptyPath, BasicStats, buffer) < 0
            ? null
            : new FileStatus(
                *(ushort*)(buffer + 28), *(ulong*)(buffer + 32), *(long*)(buffer + 40), *(ulong*)(buffer + 136));
    }

    [LibraryImport("libc", EntryPoint = "fstat", SetLastError = true)]
    private static unsafe partial int FstatNative(int fd, ulong* buffer);

    /// <summary>What tells the object behind a descriptor from any other: file system and inode. Cheaper than all of
    /// <see cref="TryGet"/>.</summary>
    /// <returns>Null if the descriptor is not open.</returns>
    internal static unsafe (ulong Device, ulong Inode)? TryGetIdentity(SafeHandle handle)
    {
        // struct stat differs between architectures, but starts with these two on every 64-bit one.
        using var fd = new BorrowedFd(handle);
        ulong* buffer = stackalloc ulong[32];
        return FstatNative(fd.Number, buffer) < 0 ? null : (buffer[0], buffer[1]);
    }

    /// <summary>The type bits of <see cref="Mode"/>.</summary>
    internal int Type => Mode & 0xF000;
}
