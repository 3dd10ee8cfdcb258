using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>What a descriptor refers to, as far as it decides how bytes are moved.</summary>
internal enum FileKind
{
    Other,
    Pipe,
    Socket,
    Regular,
    BlockDevice,
}

/// <summary>Tells the kind of a descriptor.</summary>
internal static partial class FileKinds
{
    // struct statx is 256 bytes; stx_mode is the 16-bit word at byte 28 on every architecture.
    private const int StatxSize = 256;
    private const int ModeOffset = 28;
    private const int CurrentDirectory = -100;
    private const int EmptyPath = 0x1000;
    private const uint TypeMask = 1;

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int StatxNative(int directory, string path, int flags, uint mask, byte* buffer);

    /// <summary>The kind of an open descriptor.</summary>
    internal static FileKind Of(SafeHandle handle, string what)
    {
        using var fd = new BorrowedFd(handle);
        return Of(fd.Number, "", EmptyPath, what);
    }

    /// <summary>The kind of what a path names, symbolic links followed.</summary>
    internal static FileKind Of(string path) => Of(CurrentDirectory, path, 0, path);

    private static unsafe FileKind Of(int directory, string path, int flags, string what)
    {
        byte* buffer = stackalloc byte[StatxSize];
        NativeError.Check(StatxNative(directory, path, flags, TypeMask, buffer), "statx", what);
        return (*(ushort*)(buffer + ModeOffset) & 0xF000) switch
        {
            0x1000 => FileKind.Pipe,
            0xC000 => FileKind.Socket,
            0x8000 => FileKind.Regular,
            0x6000 => FileKind.BlockDevice,
            _ => FileKind.Other,
        };
    }
}
