using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>What statx(2) says of a name in a directory, symbolic links not followed, or of an open file.</summary>
/// <param name="Mode">Type and permission bits.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Inode">Number within the file system.</param>
/// <param name="Device">Major and minor number of the file system.</param>
/// <param name="Modified">When the content was changed, in nanoseconds since 1970.</param>
/// <param name="Changed">When content or attributes were changed, which no program can set back.</param>
internal readonly partial record struct PathStatus(ushort Mode, long Size, ulong Inode, ulong Device, long Modified, long Changed)
{
    internal const int TypeMask = 0xF000;
    internal const int Directory = 0x4000;
    internal const int Regular = 0x8000;
    internal const int Link = 0xA000;

    // Offsets in struct statx, the same on every architecture.
    private const int StatxSize = 256;
    private const int CurrentDirectory = -100;
    private const int NoFollow = 0x100;
    private const int EmptyPath = 0x1000;
    private const uint BasicStats = 0x7ff;

    private const int OpenFlags = 0x80000 | 0x800;
    private const int OpenNoFollowFlag = 0x20000;
    private const int OpenNoFollowFlagArm = 0x8000;

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int StatxNative(int directory, string path, int flags, uint mask, byte* buffer);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenNative(string path, int flags);

    /// <summary>The type bits of <see cref="Mode"/>.</summary>
    internal int Type => Mode & TypeMask;

    /// <summary>The status of a name; null if it is not there.</summary>
    internal static PathStatus? TryOf(string path) => Get(CurrentDirectory, path, NoFollow, path);

    /// <summary>The inode of what a name leads to, links followed; null if it is not there or may not be looked at.</summary>
    internal static unsafe ulong? TryGetInode(string path)
    {
        byte* buffer = stackalloc byte[StatxSize];
        return StatxNative(CurrentDirectory, path, 0, BasicStats, buffer) < 0 ? null : *(ulong*)(buffer + 32);
    }

    /// <summary>The status of an open file.</summary>
    internal static PathStatus Of(SafeHandle handle, string name)
    {
        using var fd = new BorrowedFd(handle);
        return Get(fd.Number, "", EmptyPath, name) ?? throw NativeError.From("statx", name, NativeError.ENOENT);
    }

    /// <summary>Opens a file for reading, unless its name is a link by now; null if it is not there.</summary>
    internal static SafeFileHandle? TryOpen(string path)
    {
        bool isArm = RuntimeInformation.ProcessArchitecture is Architecture.Arm64 or Architecture.Arm;
        int fd = OpenNative(path, OpenFlags | (isArm ? OpenNoFollowFlagArm : OpenNoFollowFlag));
        return fd >= 0 ? new SafeFileHandle(fd, ownsHandle: true)
            : NativeError.Last is NativeError.ENOENT or NativeError.ENOTDIR or NativeError.ELOOP ? null
            : throw NativeError.From("open", path, NativeError.Last);
    }

    private static unsafe PathStatus? Get(int directory, string path, int flags, string name)
    {
        byte* buffer = stackalloc byte[StatxSize];
        if (StatxNative(directory, path, flags, BasicStats, buffer) < 0)
        {
            return NativeError.Last is NativeError.ENOENT or NativeError.ENOTDIR ? null
                : throw NativeError.From("statx", name, NativeError.Last);
        }

        return new PathStatus(*(ushort*)(buffer + 28), *(long*)(buffer + 40), *(ulong*)(buffer + 32), *(ulong*)(buffer + 136),
            Nanoseconds(buffer + 112), Nanoseconds(buffer + 96));
    }

    private static unsafe long Nanoseconds(byte* time) => unchecked(*(long*)time * 1_000_000_000 + *(uint*)(time + 8));
}
