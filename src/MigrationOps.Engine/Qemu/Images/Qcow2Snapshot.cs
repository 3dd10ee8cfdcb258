using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>An entry of a qcow2 image's snapshot table.</summary>
/// <param name="Id">Its id, a number as text.</param>
/// <param name="Name">Its name.</param>
/// <param name="Date">When it was taken.</param>
/// <param name="L1Offset">Where its L1 table lies.</param>
/// <param name="L1Size">Entries of its L1 table.</param>
/// <param name="StateSize">Bytes of VM state; 0 for a snapshot of the disk alone.</param>
/// <param name="DiskSize">The disk's size when it was taken; null if the entry does not say.</param>
/// <param name="VmClock">How long the VM had run.</param>
internal sealed record Qcow2Snapshot(
    string Id, string Name, DateTimeOffset Date, long L1Offset, int L1Size, long StateSize, ulong? DiskSize, TimeSpan VmClock)
{
    /// <summary>The longest entry that QEMU accepts: the fixed part, 1 KiB of extra data, two strings of 64 KiB.</summary>
    internal const int MaxLength = FixedLength + MaxExtra + (2 * ushort.MaxValue) + 8;

    private const int FixedLength = 40;
    private const int MaxExtra = 1024;

    // QEMU's limit of an L1 table: 32 MiB.
    private const int MaxL1Size = (32 << 20) / 8;

    /// <summary>Reads an entry with its padding to a multiple of 8; false if more bytes are needed.</summary>
    /// <exception cref="StreamException">The entry is out of range.</exception>
    internal static bool TryRead(ref WireReader reader, out Qcow2Snapshot? snapshot)
    {
        snapshot = null;
        var all = WireReader.BigEndian(reader.Rest, reader.Offset);
        if (all.Remaining < FixedLength)
        {
            return false;
        }

        ulong l1Offset = all.ReadUInt64("l1_table_offset");
        uint l1Size = all.ReadUInt32("l1_size");
        int idLength = all.ReadUInt16("id_str_size");
        int nameLength = all.ReadUInt16("name_size");
        uint seconds = all.ReadUInt32("date_sec");
        uint nanoseconds = all.ReadUInt32("date_nsec");
        ulong clock = all.ReadUInt64("vm_clock_nsec");
        ulong stateSize = all.ReadUInt32("vm_state_size");
        uint extraLength = all.ReadUInt32("extra_data_size");
        if (extraLength > MaxExtra || l1Size > MaxL1Size || l1Offset > long.MaxValue / 2)
        {
            throw new StreamException(StreamError.InvalidImage,
                $"The snapshot at byte {reader.Offset:N0} has an L1 table of {l1Size:N0} entries at {l1Offset:N0} and {extraLength:N0} bytes of extra data, which is out of range.")
            { ByteOffset = reader.Offset };
        }

        if (!all.TryReadBytes((int)extraLength, out var extra)
            || !all.TryReadBytes(idLength, out var id)
            || !all.TryReadBytes(nameLength, out var name))
        {
            return false;
        }

        // The last entry of a table may end without its padding.
        all.TryReadBytes(Math.Min(all.Remaining, -all.Position & 7), out _);
        var more = WireReader.BigEndian(extra);
        if (more.TryReadUInt64(out ulong largeSize))
        {
            stateSize = largeSize;
        }

        ulong? diskSize = more.TryReadUInt64(out ulong size) ? size : null;
        if (stateSize > long.MaxValue / 2 || diskSize > long.MaxValue / 2)
        {
            throw new StreamException(StreamError.InvalidImage,
                $"The snapshot at byte {reader.Offset:N0} has a state of {stateSize:N0} bytes of a disk of {diskSize:N0} bytes, which is out of range.")
            { ByteOffset = reader.Offset };
        }

        snapshot = new Qcow2Snapshot(
            Encoding.UTF8.GetString(id), Encoding.UTF8.GetString(name),
            DateTimeOffset.FromUnixTimeSeconds(seconds).AddTicks(nanoseconds / 100),
            (long)l1Offset, (int)l1Size, (long)stateSize, diskSize, TimeSpan.FromTicks((long)(clock / 100)));
        reader.TryReadBytes(all.Position, out _);
        return true;
    }
}

/// <summary>Where a cluster of a qcow2 image lies.</summary>
/// <param name="HostOffset">Its place in the file; 0 if it has none.</param>
/// <param name="IsCompressed">True if it is stored compressed, at another kind of place.</param>
/// <param name="ZeroSubclusters">A bit for each of the 32 parts of the cluster that reads as zeros; all or none without extended L2.</param>
internal readonly record struct Qcow2Entry(long HostOffset, bool IsCompressed, uint ZeroSubclusters)
{
    internal const int Size = 8;
    internal const int ExtendedSize = 16;

    /// <summary>Parts of a cluster that an extended entry tells apart.</summary>
    internal const int Subclusters = 32;

    private const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;
    private const ulong Compressed = 1ul << 62;
    private const ulong Zero = 1;

    /// <summary>The place of an L2 table from an L1 entry; 0 if there is none.</summary>
    internal static long TableOffset(ulong l1Entry) => (long)(l1Entry & OffsetMask);

    /// <summary>Reads an entry of an L2 table; false if more bytes are needed.</summary>
    internal static bool TryRead(ref WireReader reader, bool extended, out Qcow2Entry entry)
    {
        entry = default;
        if (reader.Remaining < (extended ? ExtendedSize : Size) || !reader.TryReadUInt64(out ulong word))
        {
            return false;
        }

        ulong bitmap = 0;
        if (extended)
        {
            reader.TryReadUInt64(out bitmap);
        }

        long offset = (long)(word & OffsetMask);
        uint zero = offset == 0 || (!extended && (word & Zero) != 0) ? uint.MaxValue
            : extended ? (uint)(bitmap >> 32) | ~(uint)bitmap
            : 0;
        entry = new Qcow2Entry(offset, (word & Compressed) != 0, zero);
        return true;
    }
}
