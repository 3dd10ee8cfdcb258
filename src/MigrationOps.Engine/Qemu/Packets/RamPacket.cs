using System.Buffers.Binary;
using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>The fixed part of a packet of RAM pages. Page data follows it. It points into the bytes that it was read from.</summary>
internal readonly ref struct RamPacket
{
    // Every packet has room for 512 KiB of pages, whatever it carries.
    private const int BytesPerPacket = 512 * 1024;
    private const int NameLength = 256;
    private const int HeadLength = 12 + 8 + 8 + 24;

    private readonly ReadOnlySpan<byte> _name;
    private readonly ReadOnlySpan<byte> _offsets;

    private RamPacket(PacketHeader header, long offset, int normal, int zero, long payload, ulong number, ReadOnlySpan<byte> name, ReadOnlySpan<byte> offsets)
    {
        Header = header;
        Offset = offset;
        NormalPages = normal;
        ZeroPages = zero;
        PayloadLength = payload;
        PacketNumber = number;
        _name = name;
        _offsets = offsets;
    }

    /// <summary>The flags.</summary>
    internal PacketHeader Header { get; }

    /// <summary>Where the packet starts in the channel.</summary>
    internal long Offset { get; }

    /// <summary>Pages whose data follows.</summary>
    internal int NormalPages { get; }

    /// <summary>Pages that are zero and have no data.</summary>
    internal int ZeroPages { get; }

    /// <summary>Bytes of data that follow.</summary>
    internal long PayloadLength { get; }

    /// <summary>Number of the packet, counted over all channels.</summary>
    internal ulong PacketNumber { get; }

    /// <summary>All its pages.</summary>
    internal int Pages => NormalPages + ZeroPages;

    /// <summary>The block that the pages are of; empty in a packet without pages.</summary>
    internal string Block => Pages == 0 ? "" : Encoding.UTF8.GetString(_name);

    /// <summary>Whether the pages are of this block.</summary>
    internal bool IsOf(ReadOnlySpan<byte> block) => _name.SequenceEqual(block);

    /// <summary>Where a page lies in its block; those with data come first.</summary>
    internal ulong PageOffset(int index) => BinaryPrimitives.ReadUInt64BigEndian(_offsets[(index * sizeof(ulong))..]);

    /// <summary>Length of the fixed part in bytes, header included.</summary>
    /// <param name="pageSize">Size of a target page in bytes.</param>
    internal static int SizeFor(int pageSize) => PacketHeader.Size + HeadLength + NameLength + (sizeof(ulong) * (BytesPerPacket / pageSize));

    /// <summary>Reads and checks a packet, header included.</summary>
    internal static bool TryRead(scoped ref WireReader reader, int pageSize, long limit, out RamPacket packet)
    {
        var r = reader;
        packet = default;
        if (!PacketHeader.TryRead(ref r, out var header) || !TryRead(ref r, header, pageSize, limit, out packet))
        {
            return false;
        }

        reader = r;
        return true;
    }

    /// <summary>Reads and checks what follows the header.</summary>
    /// <param name="reader">The bytes at hand.</param>
    /// <param name="header">The header, which has been read.</param>
    /// <param name="pageSize">Size of a target page in bytes.</param>
    /// <param name="limit">The largest size of the data that follows.</param>
    /// <param name="packet">The packet.</param>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidRamPacket"/>, <see cref="StreamError.PacketTooLarge"/>.</exception>
    internal static bool TryRead(scoped ref WireReader reader, PacketHeader header, int pageSize, long limit, out RamPacket packet)
    {
        var r = reader;
        packet = default;
        int room = BytesPerPacket / pageSize;
        if (r.Remaining < SizeFor(pageSize) - PacketHeader.Size)
        {
            return false;
        }

        long offset = r.Offset - PacketHeader.Size;
        string? source = r.Source;
        r.TryReadUInt32(out uint allocated);
        r.TryReadUInt32(out uint normal);
        r.TryReadUInt32(out uint size);
        r.TryReadUInt64(out ulong number);
        r.TryReadUInt32(out uint zero);
        r.TryReadBytes(4 + 24, out _);
        r.TryReadBytes(NameLength, out var name);
        r.TryReadBytes(sizeof(ulong) * room, out var offsets);
        if (allocated > room)
        {
            throw Invalid($"the packet has room for {allocated} pages, and {room} of {pageSize} bytes are the most");
        }

        if (normal > allocated || zero > allocated - normal)
        {
            throw Invalid($"{normal} normal and {zero} zero pages are more than the {allocated} of the packet");
        }

        if (header.CompressionName is not { } compression)
        {
            throw Invalid($"several compressions are named (0x{(uint)header.Compression:x})");
        }

        // A packet without normal pages has no data, be it compressed or a SYNC: QEMU reads none, and before 8.0 leaves the size of
        // an earlier packet in it.
        if (normal == 0)
        {
            size = 0;
        }

        long expected = compression == "none" ? (long)normal * pageSize : size;
        if (size != expected)
        {
            throw Invalid($"{normal} pages have {expected:N0} bytes of data, but the packet announces {size:N0}");
        }

        if (size > limit)
        {
            throw StreamException.In(StreamError.PacketTooLarge, r.Source, offset, $"the packet announces {size:N0} bytes, the limit is {limit:N0}");
        }

        // QEMU puts a NUL into the last byte, whatever is there.
        int end = name[..^1].IndexOf((byte)0);
        name = name[..(end < 0 ? NameLength - 1 : end)];
        if (normal + zero > 0 && !StreamText.IsName(name))
        {
            throw Invalid("the packet has no readable block name");
        }

        packet = new RamPacket(header, offset, (int)normal, (int)zero, size, number, name, offsets);
        reader = r;
        return true;

        StreamException Invalid(string what) => StreamException.In(StreamError.InvalidRamPacket, source, offset, what);
    }
}
