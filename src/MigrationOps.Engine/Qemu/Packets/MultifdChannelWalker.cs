using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>What a recorded multifd channel holds, as <see cref="MultifdChannelWalker"/> reports it.</summary>
internal interface IChannelVisitor
{
    /// <summary>The channel's first message.</summary>
    void OnInit(ChannelInit init);

    /// <summary>A packet of RAM; valid during the call.</summary>
    /// <returns>True if the payload is wanted.</returns>
    bool OnRamPacket(in RamPacket packet);

    /// <summary>A packet of a device's state; valid during the call.</summary>
    void OnDevicePacket(in DeviceStatePacket packet);

    /// <summary>Looks into the payload of a device's packet before any of its bytes count as read.</summary>
    /// <param name="packet">The packet.</param>
    /// <param name="payload">As much of its payload as is there.</param>
    /// <returns>How many bytes of the payload have to be there: if more than are, the call comes again with more.</returns>
    int CheckDevicePacket(in DeviceStatePacket packet, ReadOnlySpan<byte> payload) => 0;

    /// <summary>Something that QEMU accepts and no QEMU writes.</summary>
    void OnWarning(string warning);

    /// <summary>Bytes of the current packet's payload, if they were wanted.</summary>
    void OnPayload(ReadOnlySpan<byte> data);
}

/// <summary>Walks one multifd channel without I/O: the init packet, then packets until the channel closes.</summary>
/// <param name="visitor">Who is told.</param>
/// <param name="pageSize">Size of a target page in bytes.</param>
/// <param name="name">What errors call the channel.</param>
internal sealed class MultifdChannelWalker(IChannelVisitor visitor, long pageSize, string name = "the channel") : IByteConsumer
{
    // No more than a receiver takes by default.
    private const long PayloadLimit = 64 << 20;

    private readonly int _pageSize = (int)pageSize;
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
        var reader = WireReader.BigEndian(data, Offset, name);
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
                $"{char.ToUpperInvariant(name[0])}{name[1..]} ends at byte {end:N0}, inside {(_started ? $"the packet that starts at byte {(_payloadLeft > 0 ? _packetOffset : reader.Offset):N0}" : "its init packet")}.")
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
        if (!ChannelInit.TryRead(ref reader, out var init))
        {
            return false;
        }

        visitor.OnInit(init);
        _started = true;
        return true;
    }

    private bool ReadPacket(ref WireReader reader)
    {
        var r = reader;
        if (!PacketHeader.TryRead(ref r, out var header))
        {
            return false;
        }

        if (header.IsDeviceState)
        {
            if (!DeviceStatePacket.TryRead(ref r, header, PayloadLimit, out var packet)
                || visitor.CheckDevicePacket(packet, r.Rest[..Math.Min(packet.PayloadSize, r.Remaining)]) > r.Remaining)
            {
                return false;
            }

            (_payloadLeft, _wanted) = (packet.PayloadSize, false);
            visitor.OnDevicePacket(packet);
        }
        else
        {
            if (!RamPacket.TryRead(ref r, header, _pageSize, PayloadLimit, out var packet))
            {
                return false;
            }

            _payloadLeft = packet.PayloadLength;
            _wanted = visitor.OnRamPacket(packet);
        }

        if (header.Warning is { } warning)
        {
            visitor.OnWarning(warning);
        }

        _packetOffset = reader.Offset;
        reader = r;
        return true;
    }
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
