using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>What a recorded multifd channel holds, as <see cref="MultifdChannelWalker"/> reports it.</summary>
internal interface IChannelVisitor
{
    /// <summary>The channel's first 64 bytes.</summary>
    void OnInit(int id, Guid uuid);

    /// <summary>A packet of RAM. Offsets are be64 words: those of normal pages first, then those of zero pages.</summary>
    /// <returns>True if the payload is wanted.</returns>
    bool OnRamPacket(RamPacket packet, ReadOnlySpan<byte> offsets);

    /// <summary>A packet of a device's state.</summary>
    void OnDevicePacket(string idStr, uint instanceId, long offset, long payloadLength);

    /// <summary>Bytes of the current packet's payload, if they were wanted.</summary>
    void OnPayload(ReadOnlySpan<byte> data);
}

/// <summary>A RAM packet's head.</summary>
internal readonly record struct RamPacket(
    long Offset, bool IsSync, string Compression, string Block, int Normal, int Zero, long PayloadLength);

/// <summary>Walks one recorded multifd channel without I/O: the init packet, then packets until the channel closes.</summary>
internal sealed class MultifdChannelWalker(IChannelVisitor visitor, long pageSize) : IByteConsumer
{
    internal const uint Magic = 0x11223344;

    private const uint Version = 1;
    private const int HeadLength = 12;
    private const int InitLength = 64;
    private const int NameLength = 256;
    internal const int PacketData = 512 * 1024;
    private const uint Sync = 1;
    private const uint CompressionMask = 0x3e;
    private const uint DeviceState = 0x40;

    private readonly int _maxPages = (int)(PacketData / pageSize);
    private bool _started;
    private bool _wanted;
    private long _payloadLeft;
    private long _packetOffset;

    public long Offset { get; private set; }

    public long PendingSkip => _wanted ? 0 : _payloadLeft;

    public void Skipped(long count)
    {
        _payloadLeft -= count;
        Offset += count;
    }

    public int Feed(ReadOnlySpan<byte> data, bool last)
    {
        var reader = WireReader.BigEndian(data, Offset);
        try
        {
            while (Step(ref reader))
            {
            }
        }
        finally
        {
            Offset += reader.Position;
        }

        if (last && (_payloadLeft > 0 || reader.Remaining > 0 || !_started))
        {
            long end = reader.Offset + reader.Remaining;
            throw new StreamException(StreamError.Truncated,
                $"The channel ends at byte {end:N0}, inside {(_started ? $"the packet that starts at byte {(_payloadLeft > 0 ? _packetOffset : reader.Offset):N0}" : "its init packet")}.")
            { ByteOffset = end };
        }

        return reader.Position;
    }

    private bool Step(ref WireReader reader)
    {
        if (_payloadLeft > 0)
        {
            int count = (int)Math.Min(_payloadLeft, reader.Remaining);
            reader.TryReadBytes(count, out var data);
            if (_wanted && count > 0)
            {
                visitor.OnPayload(data);
            }

            _payloadLeft -= count;
            if (_payloadLeft > 0)
            {
                return false;
            }
        }

        return _started ? ReadPacket(ref reader) : ReadInit(ref reader);
    }

    private bool ReadInit(ref WireReader reader)
    {
        if (reader.Remaining < InitLength)
        {
            return false;
        }

        CheckHead(ref reader, "init packet");
        reader.TryReadBytes(16, out var uuid);
        reader.TryReadByte(out byte id);
        reader.TryReadBytes(InitLength - 25, out _);
        visitor.OnInit(id, new Guid(uuid, bigEndian: true));
        _started = true;
        return true;
    }

    private bool ReadPacket(ref WireReader reader)
    {
        var r = reader;
        if (r.Remaining < HeadLength)
        {
            return false;
        }

        long offset = r.Offset;
        CheckHead(ref r, "packet");
        r.TryReadUInt32(out uint flags);
        if ((flags & ~(Sync | CompressionMask | DeviceState)) != 0 || ((flags & DeviceState) != 0 && flags != DeviceState))
        {
            throw Invalid(offset, $"flags 0x{flags:x} that do not exist or do not go together");
        }

        bool whole = (flags & DeviceState) != 0 ? ReadDevicePacket(ref r, offset) : ReadRamPacket(ref r, flags, offset);
        if (whole)
        {
            _packetOffset = offset;
            reader = r;
        }

        return whole;
    }

    private bool ReadDevicePacket(ref WireReader r, long offset)
    {
        if (!r.TryReadBytes(NameLength, out var name) || !r.TryReadUInt32(out uint instance) || !r.TryReadUInt32(out uint length))
        {
            return false;
        }

        string idStr = Name(name, offset);
        if (length == 0)
        {
            throw Invalid(offset, $"no state of the device '{idStr}'");
        }

        _payloadLeft = length;
        _wanted = false;
        visitor.OnDevicePacket(idStr, instance, offset, length);
        return true;
    }

    private bool ReadRamPacket(ref WireReader r, uint flags, long offset)
    {
        if (!r.TryReadUInt32(out uint allocated) || !r.TryReadUInt32(out uint normal) || !r.TryReadUInt32(out uint size)
            || !r.TryReadUInt64(out _) || !r.TryReadUInt32(out uint zero) || !r.TryReadBytes(28, out _)
            || !r.TryReadBytes(NameLength, out var name) || !r.TryReadBytes(8 * _maxPages, out var offsets))
        {
            return false;
        }

        if (allocated > _maxPages || normal > allocated || zero > allocated - normal)
        {
            throw Invalid(offset, $"{normal:N0} normal and {zero:N0} zero pages of {allocated:N0}, where {_maxPages} are the most");
        }

        string compression = CompressionName(flags & CompressionMask, offset);
        bool compressed = compression != "none";
        long payload = compressed ? size : normal * pageSize;
        if (payload > 4L * PacketData || (!compressed && size != payload && size != 0))
        {
            throw Invalid(offset, $"{size:N0} bytes for {normal:N0} pages of {pageSize:N0}");
        }

        int pages = (int)(normal + zero);
        var packet = new RamPacket(offset, (flags & Sync) != 0, compression, pages == 0 ? "" : Name(name, offset), (int)normal, (int)zero, payload);
        _payloadLeft = payload;
        _wanted = visitor.OnRamPacket(packet, offsets[..(8 * pages)]);
        return true;
    }

    private static string CompressionName(uint bits, long offset) => bits switch
    {
        0 => "none",
        1 << 1 => "zlib",
        2 << 1 => "zstd",
        4 << 1 => "qpl",
        8 << 1 => "uadk",
        16 << 1 => "qatzip",
        _ => throw Invalid(offset, $"several compressions (0x{bits:x})"),
    };

    private static string Name(ReadOnlySpan<byte> field, long offset)
    {
        int end = field.IndexOf((byte)0);
        return end > 0 && StreamText.IsName(field[..end]) ? Encoding.UTF8.GetString(field[..end]) : throw Invalid(offset, "no readable name");
    }

    private static void CheckHead(ref WireReader r, string what)
    {
        long offset = r.Offset;
        r.TryReadUInt32(out uint magic);
        r.TryReadUInt32(out uint version);
        if (magic != Magic || version != Version)
        {
            throw new StreamException(StreamError.InvalidPacket,
                $"At byte {offset:N0} of the channel an {what} belongs: magic 0x{magic:x8}, version {version} instead of 0x{Magic:x8}, {Version}.")
            { ByteOffset = offset };
        }
    }

    private static StreamException Invalid(long offset, string what)
        => new(StreamError.InvalidPacket, $"The packet at byte {offset:N0} of the channel has {what}.") { ByteOffset = offset };
}

/// <summary>Takes bytes, and says how many it used and how many it does not need.</summary>
internal interface IByteConsumer
{
    long PendingSkip { get; }

    /// <summary>True if what is behind the bytes consumed so far is of no interest.</summary>
    bool IsDone => false;

    int Feed(ReadOnlySpan<byte> data, bool last);

    void Skipped(long count);
}
