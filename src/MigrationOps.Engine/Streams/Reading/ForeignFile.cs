using System.Buffers.Binary;
using System.Text;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>Names a file that is not a migration stream by its first bytes, and says what can be done with it.</summary>
internal static class ForeignFile
{
    private const int SectorLength = 512;
    private const int ZerosLooked = 1 << 20;

    /// <summary>The refusal of a file that does not start as a stream.</summary>
    /// <param name="start">Its first bytes.</param>
    /// <param name="length">How many it has; <see cref="long.MaxValue"/> if that is not known.</param>
    /// <param name="file">The file, to look further; null for a pipe.</param>
    /// <param name="compression">How it was compressed, if it was.</param>
    internal static StreamException Refuse(ReadOnlySpan<byte> start, long length, FileInput? file, string? compression)
    {
        var (what, action) = Identify(start, length, file);
        string text = start.Length < sizeof(uint) ? "" : $" It starts with 0x{BinaryPrimitives.ReadUInt32BigEndian(start):x8}, not with 'QEVM' (0x{StreamFormat.Magic:x8}).";
        string container = compression is null ? "This" : $"The content, which is compressed with {compression},";
        bool cut = length < sizeof(uint) && StreamFormat.MagicBytes.StartsWith(start);
        return new StreamException(cut ? StreamError.Truncated : StreamError.NotAStream,
            cut ? $"The stream ends at byte {length}, inside the header{(length == 0 ? "; it is empty" : "")}." : $"{container} is {what}, not a migration stream.{text}", action: cut ? null : action)
        { ByteOffset = cut ? length : 0 };
    }

    private static (string What, string? Action) Identify(ReadOnlySpan<byte> start, long length, FileInput? file)
    {
        if (length == 0)
        {
            return ("empty", null);
        }

        if (!start.ContainsAnyExcept((byte)0))
        {
            return IdentifyTail(length, file) ?? (file is not null && IdentifyFileSystem(file) is { } found ? (found, ForeignKinds.DiskAction) : IdentifyZeros(length, file));
        }

        foreach (var kind in ForeignKinds.All)
        {
            if (start.Length >= kind.Offset + kind.Magic.Length && start[kind.Offset..].StartsWith(kind.Magic))
            {
                return (kind.What, kind.Action);
            }
        }

        return IdentifyElf(start) ?? IdentifyQcow2(start) ?? IdentifyTail(length, file) ?? IdentifyCompressed(start) ?? IdentifyStreamBehind(file) ?? IdentifyText(start) ?? IdentifyDisk(start, file)
            ?? ("of a kind that is not known here", "Give a file that QEMU's migrate wrote, a libvirt save image, or the folder of a multifd archive. If the stream starts further on, give its offset.");
    }

    // The content of a compressed file, which was decompressed once.
    private static (string, string?)? IdentifyCompressed(ReadOnlySpan<byte> start)
        => Compressions.Of(start) is { } program ? ($"compressed once more, with {program}", $"Decompress it once first: {program} -dc FILE.") : null;

    private static (string, string?)? IdentifyStreamBehind(FileInput? file)
    {
        if (file is null)
        {
            return null;
        }

        var piece = new byte[Math.Min(ZerosLooked, file.Length)];
        int stream = piece.AsSpan(0, file.Read(0, piece)).IndexOf(StreamFormat.HeaderBytes);
        return stream > 0 ? ($"{stream:N0} bytes of something else with a migration stream behind them", $"Give the offset {file.Start + stream}.") : null;
    }

    private static (string, string?) IdentifyZeros(long length, FileInput? file)
    {
        const string Action = "Nothing was saved here, or the stream starts further on: give its offset then.";
        if (file is null)
        {
            return ("a start of zeros only", Action);
        }

        if (Lseek.NextData(file.Handle, file.Start) is null)
        {
            return ($"{length:N0} zero bytes that were never written", Action);
        }

        var piece = new byte[Math.Min(ZerosLooked, length)];
        int got = file.Read(0, piece);
        int other = piece.AsSpan(0, got).IndexOfAnyExcept((byte)0);
        int stream = piece.AsSpan(0, got).IndexOf(StreamFormat.HeaderBytes);
        return stream >= 0 ? ($"{stream:N0} zero bytes with a migration stream behind them", $"Give the offset {file.Start + stream}.")
            : other >= 0 ? ("zeros in its first bytes and other data behind them", Action)
            : got == length ? ($"{length:N0} zero bytes only", Action)
            : ($"zeros only in its first {got:N0} of {length:N0} bytes", Action);
    }

    private static (string, string?)? IdentifyElf(ReadOnlySpan<byte> start)
    {
        const int Core = 4;
        if (start.Length < 18 || !start.StartsWith("\u007fELF"u8))
        {
            return null;
        }

        // e_type, in the file's own byte order.
        int type = start[5] == 2 ? BinaryPrimitives.ReadUInt16BigEndian(start[16..]) : BinaryPrimitives.ReadUInt16LittleEndian(start[16..]);
        return type == Core
            ? ("an ELF core file, as QEMU's dump-guest-memory or a crashed program writes: memory and CPU registers without devices", "Read it with crash or gdb. No VM can be started from it; save the VM with migrate.")
            : ("an ELF program or library", "Give the file that QEMU's migrate wrote.");
    }

    private static (string, string?)? IdentifyQcow2(ReadOnlySpan<byte> start)
    {
        const int SnapshotCount = 60;
        if (!start.StartsWith("QFI"u8) || start.Length < SnapshotCount + 4 || start[3] != 0xfb)
        {
            return null;
        }

        uint version = BinaryPrimitives.ReadUInt32BigEndian(start[4..]);
        uint snapshots = version >= 2 ? BinaryPrimitives.ReadUInt32BigEndian(start[SnapshotCount..]) : 0;
        return version < 2 ? ("a qcow disk image of version 1", "Convert it with qemu-img convert; it holds no VM state.")
            : snapshots == 0 ? ("a qcow2 disk image without internal snapshots", "It holds no VM state. A state that savevm stored is in the VM's first writable qcow2 disk.")
            : ($"a qcow2 disk image with {snapshots} internal snapshot{(snapshots == 1 ? "" : "s")}",
                "List the snapshots with qemu-img snapshot -l FILE. Those with a VM size hold a VM state: start the VM with -loadvm NAME, and take the state out with migrate to a file.");
    }

    private static (string, string?)? IdentifyText(ReadOnlySpan<byte> start)
    {
        string text = Encoding.UTF8.GetString(start);
        if (text.AsSpan(0, Math.Max(0, text.Length - 4)).IndexOfAnyInRange('\0', '\b') >= 0 || text.AsSpan(0, Math.Max(0, text.Length - 4)).Contains('\uFFFD'))
        {
            return null;
        }

        string trimmed = text.TrimStart('\uFEFF', ' ', '\t', '\r', '\n');
        return trimmed.StartsWith('{') || trimmed.StartsWith('[') ? IdentifyJson(text)
            : trimmed.StartsWith("<domain", StringComparison.Ordinal) || trimmed.Contains("<domstatus", StringComparison.Ordinal)
                ? ("a libvirt domain's XML", "Give the save image itself (virsh save, or /var/lib/libvirt/qemu/save for managed saves).")
            : trimmed.StartsWith("# Disk DescriptorFile", StringComparison.Ordinal) ? (ForeignKinds.VmdkName, ForeignKinds.DiskAction)
            : trimmed.StartsWith('<') ? ("a text of XML or HTML", null)
            : ($"a text: \"{FirstLine(trimmed)}\"", "Look whether a program wrote its messages there instead of the stream.");
    }

    private static (string, string?) IdentifyJson(string text)
        => text.Contains("\"vmschkmachine\"", StringComparison.Ordinal)
            ? ("a device description of QEMU (-dump-vmstate)", "Compare a stream with it.")
        : text.Contains("\"snapshot_data\"", StringComparison.Ordinal) || text.Contains("\"snapshots\"", StringComparison.Ordinal)
            ? ("the state of a Cloud Hypervisor snapshot (state.json)", "Restore its folder with cloud-hypervisor --restore; QEMU cannot load it.")
        : text.Contains("\"page_size\"", StringComparison.Ordinal) && text.Contains("\"devices\"", StringComparison.Ordinal)
            ? ("the description of a stream without the stream (JSON)", "Give the stream that it was taken from.")
        : text.Contains("\"section sizes\"", StringComparison.Ordinal)
            ? ("what analyze-migration.py prints for a stream (JSON)", "Give the stream that it was made from.")
        : text.Contains("\"schemaVersion\"", StringComparison.OrdinalIgnoreCase) && text.Contains("\"kind\"", StringComparison.OrdinalIgnoreCase)
            ? ("the manifest of a device state file (JSON)", "Check the state file beside it.")
        : ("a text of JSON", null);

    // A fixed VHD, some disk images of macOS and all of UDIF are told by their last bytes.
    private static (string, string?)? IdentifyTail(long length, FileInput? file)
    {
        if (file is null || length < SectorLength)
        {
            return null;
        }

        var tail = new byte[SectorLength];
        file.Read(length - SectorLength, tail);
        return tail.AsSpan().StartsWith("conectix"u8) ? (ForeignKinds.VhdName, ForeignKinds.DiskAction)
            : tail.AsSpan().StartsWith("koly"u8) ? ("an Apple disk image (UDIF)", ForeignKinds.DiskAction)
            : null;
    }

    private static (string, string?)? IdentifyDisk(ReadOnlySpan<byte> start, FileInput? file)
    {
        if (start.Length >= 2 * SectorLength && start[SectorLength..].StartsWith("EFI PART"u8))
        {
            return ("a raw disk with a GPT partition table", ForeignKinds.DiskAction);
        }

        if (file is not null && IdentifyFileSystem(file) is { } fileSystem)
        {
            return (fileSystem, ForeignKinds.DiskAction);
        }

        return start.Length >= SectorLength && start[510] == 0x55 && start[511] == 0xaa
            ? ("a raw disk with a boot sector (MBR partition table)", ForeignKinds.DiskAction) : null;
    }

    private static string? IdentifyFileSystem(FileInput file)
    {
        foreach (var (offset, magic, name) in ForeignKinds.FarMagics)
        {
            var bytes = new byte[magic.Length];
            if (file.Read(offset, bytes) == magic.Length && bytes.AsSpan().SequenceEqual(magic))
            {
                return name;
            }
        }

        return null;
    }

    private static string FirstLine(string text)
    {
        const int MaxShown = 60;
        string line = text.Split('\n', 2)[0].TrimEnd();
        return line.Length <= MaxShown ? line : line[..MaxShown] + "…";
    }
}
