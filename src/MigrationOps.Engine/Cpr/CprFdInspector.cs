using System.Runtime.InteropServices;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Cpr;

/// <summary>Tells what the descriptor of an entry is.</summary>
internal static class CprFdInspector
{
    private static readonly (int Bit, string Name)[] s_flags =
    [
        (0x400, "APPEND"), (0x800, "NONBLOCK"), (0x1000, "DSYNC"), (0x2000, "ASYNC"), (0x4000, "DIRECT"),
        (0x8000, "LARGEFILE"), (0x40000, "NOATIME"), (0x100000, "SYNC"), (0x200000, "PATH"),
    ];

    private static readonly (int Bit, string Name)[] s_seals =
    [
        (1, "SEAL"), (2, "SHRINK"), (4, "GROW"), (8, "WRITE"), (16, "FUTURE_WRITE"), (32, "EXEC"),
    ];

    /// <summary>Describes an entry from /proc, statx(2) and fcntl(2).</summary>
    /// <exception cref="CprException"><see cref="CprError.DescriptorClosed"/>.</exception>
    public static CprFd Describe(CprEntry entry)
    {
        ArgumentNullException.ThrowIfNull(entry);
        entry.Verify();
        string what = $"entry '{entry.Name}'";
        var status = FileStatus.TryGet(entry.Handle)!.Value;
        string target = ReadTarget(entry.Number);
        int flags = Fcntl.GetFlags(entry.Handle, what);
        return new CprFd
        {
            Name = entry.Name.ToString(),
            Id = entry.Id,
            Fd = entry.Number,
            Kind = KindOf(status, target),
            Size = status.Type is 0x8000 ? status.Size : 0,
            Target = target,
            Access = Fcntl.GetAccess(entry.Handle, what),
            Flags = Decode(flags, s_flags),
            Seals = Decode(Fcntl.TryGetSeals(entry.Handle) ?? 0, s_seals),
            Device = (long)status.Device,
            Inode = (long)status.Inode,
            Received = entry.IsReceived,
        };
    }

    private static string ReadTarget(int number) => new FileInfo($"/proc/self/fd/{number}").LinkTarget ?? "";

    private static CprFdKind KindOf(FileStatus status, string target) => status.Type switch
    {
        0x8000 => target.StartsWith("/memfd:", StringComparison.Ordinal) ? CprFdKind.MemFd : CprFdKind.File,
        0x4000 => CprFdKind.Directory,
        0x6000 => CprFdKind.BlockDevice,
        0x2000 => CprFdKind.CharacterDevice,
        0xC000 => CprFdKind.Socket,
        0x1000 => CprFdKind.Pipe,
        _ when target == "anon_inode:[eventfd]" => CprFdKind.EventFd,
        _ when target.StartsWith("anon_inode:", StringComparison.Ordinal) => CprFdKind.AnonymousInode,
        _ => CprFdKind.Other,
    };

    private static string[] Decode(int bits, (int Bit, string Name)[] names)
        => [.. names.Where(name => (bits & name.Bit) != 0).Select(name => name.Name)];
}
