using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>The fixed part of a packet of RAM pages. Page data follows it.</summary>
/// <param name="Header">The flags.</param>
/// <param name="PagesAllocated">Entries of the offset table that the source uses; 0 on a SYNC packet.</param>
/// <param name="NormalPages">Pages whose data follows.</param>
/// <param name="ZeroPages">Pages that are zero and have no data.</param>
/// <param name="NextPacketSize">Bytes of data that follow.</param>
/// <param name="PacketNumber">Number of the packet, counted over all channels.</param>
public readonly record struct RamPacket(
    PacketHeader Header, uint PagesAllocated, uint NormalPages, uint ZeroPages, uint NextPacketSize, ulong PacketNumber)
{
    // Every packet has room for 512 KiB of pages, whatever it carries.
    private const int BytesPerPacket = 512 * 1024;
    private const int TableOffset = PacketHeader.Size + 12 + 8 + 8 + 24 + 256;

    /// <summary>Length of the fixed part in bytes.</summary>
    /// <param name="pageSize">Size of a target page in bytes.</param>
    public static int SizeFor(int pageSize) => TableOffset + 8 * (BytesPerPacket / pageSize);

    /// <summary>True if the size is one that a target page can have: a power of two from 1 KiB to 512 KiB.</summary>
    public static bool IsPageSize(long size) => size is >= 1024 and <= BytesPerPacket && (size & (size - 1)) == 0;

    /// <summary>Reads and checks the fixed part.</summary>
    /// <param name="data">Bytes from the packet's start, header included.</param>
    /// <param name="packet">The packet.</param>
    /// <param name="pageSize">Size of a target page in bytes.</param>
    /// <param name="limit">The largest size of the data that follows.</param>
    /// <param name="channel">What errors call the channel.</param>
    /// <param name="offset">Where the packet starts in the channel.</param>
    /// <returns>Bytes used; 0 if more are needed.</returns>
    /// <exception cref="MultifdException"><see cref="MultifdError.InvalidRamPacket"/>, <see cref="MultifdError.PacketTooLarge"/>.</exception>
    public static int Parse(
        ReadOnlySpan<byte> data, out RamPacket packet, int pageSize, long limit, string channel, long offset)
    {
        packet = default;
        int size = SizeFor(pageSize);
        if (data.Length < size)
        {
            return 0;
        }

        PacketHeader.Parse(data, out var header, channel, offset);
        var reader = WireReader.BigEndian(data[PacketHeader.Size..]);
        uint allocated = reader.ReadUInt32("pages_alloc");
        uint normal = reader.ReadUInt32("normal_pages");
        uint next = reader.ReadUInt32("next_packet_size");
        ulong number = reader.ReadUInt64("packet_num");
        uint zero = reader.ReadUInt32("zero_pages");
        packet = new RamPacket(header, allocated, normal, zero, next, number);
        packet.Check(pageSize, limit, channel, offset);
        return size;
    }

    private void Check(int pageSize, long limit, string channel, long offset)
    {
        MultifdException Invalid(string what) => MultifdException.At(MultifdError.InvalidRamPacket, channel, offset, what);
        long room = BytesPerPacket / pageSize;
        if (PagesAllocated != 0 && PagesAllocated != room)
        {
            throw Invalid($"the packet has {PagesAllocated} pages, which does not fit a page size of {pageSize} bytes");
        }

        if ((long)NormalPages + ZeroPages > PagesAllocated)
        {
            throw Invalid($"{NormalPages} normal and {ZeroPages} zero pages are more than the {PagesAllocated} of the packet");
        }

        // A compressed packet without normal pages has no data, nor has a SYNC packet: QEMU reads none.
        long expected = NormalPages == 0 ? 0 : Header.Compression != 0 ? NextPacketSize : (long)NormalPages * pageSize;
        if (NextPacketSize != expected)
        {
            throw Invalid($"{NormalPages} pages have {expected:N0} bytes of data, but the packet announces {NextPacketSize:N0}");
        }

        if (NextPacketSize > limit)
        {
            throw MultifdException.At(MultifdError.PacketTooLarge, channel, offset,
                $"the packet announces {NextPacketSize:N0} bytes, the limit is {limit:N0}");
        }
    }
}
