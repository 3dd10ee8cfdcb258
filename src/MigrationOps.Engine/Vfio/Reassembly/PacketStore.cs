using MigrationOps.Engine.Multifd;

namespace MigrationOps.Engine.Vfio;

/// <summary>Where the packets of all devices wait for their turn: in memory within the budget, else in the spill file.</summary>
internal sealed class PacketStore(PacketBudget budget, PacketBuffers buffers, SpillFile spill) : IDisposable
{
    private const string What = "a packet's data";
    private const int LargePiece = 512 * 1024;
    private const int SpillPiece = 64 * 1024;

    /// <summary>Takes room in memory for a packet, if there is any.</summary>
    internal bool TryReserve(int length) => budget.TryCharge(PacketBudget.CostOf(length));

    /// <summary>Reads a packet's data from its channel into memory that has been reserved.</summary>
    internal HeldPacket ReadToMemory(ChannelReader channel, int length)
    {
        long cost = PacketBudget.CostOf(length);
        if (length <= PacketBuffers.ChunkSize)
        {
            Memory<byte> buffer = length == 0 ? default : buffers.Rent(length);
            channel.ReadExactly(buffer.Span[..length], What);
            return HeldPacket.InMemory(buffer, length, cost);
        }

        var pieces = new Memory<byte>[(length + PacketBuffers.ChunkSize - 1) / PacketBuffers.ChunkSize];
        for (int i = 0; i < pieces.Length; i++)
        {
            int size = Math.Min(PacketBuffers.ChunkSize, length - i * PacketBuffers.ChunkSize);
            pieces[i] = buffers.Rent(size);
            channel.ReadExactly(pieces[i].Span[..size], What);
        }

        return HeldPacket.InMemory(pieces, length, cost);
    }

    /// <summary>Reads a packet's data from its channel into the spill file.</summary>
    internal HeldPacket ReadToFile(ChannelReader channel, int length)
    {
        long offset = spill.Reserve(length);
        for (int done = 0; done < length;)
        {
            var part = channel.Next(length - done, What);
            spill.Write(offset + done, part);
            done += part.Length;
            channel.Advance(part.Length);
        }

        return HeldPacket.InFile(offset, length);
    }

    /// <summary>Reads a packet's data from its channel straight into the device's sink.</summary>
    internal void PassOn(ChannelReader channel, int length, IDeviceStateSink sink)
    {
        if (TryReserve(PacketBuffers.ChunkSize))
        {
            PassOnInLargePieces(channel, length, sink);
            return;
        }

        for (int left = length; left > 0;)
        {
            var part = channel.Next(left, What);
            sink.Write(part);
            left -= part.Length;
            channel.Advance(part.Length);
        }
    }

    /// <summary>Gives a packet to the device's sink.</summary>
    internal void Deliver(in HeldPacket packet, IDeviceStateSink sink)
    {
        if (packet.IsSpilled)
        {
            DeliverSpilled(packet, sink);
        }
        else if (packet.Pieces is { } pieces)
        {
            for (int i = 0; i < pieces.Length; i++)
            {
                sink.Write(pieces[i].Span[..Math.Min(PacketBuffers.ChunkSize, packet.Length - i * PacketBuffers.ChunkSize)]);
            }
        }
        else if (packet.Length > 0)
        {
            sink.Write(packet.Buffer.Span[..packet.Length]);
        }
    }

    /// <summary>Gives back what a packet held.</summary>
    internal void Release(in HeldPacket packet)
    {
        if (packet.IsSpilled)
        {
            spill.Release(packet.Length);
        }

        if (!packet.Buffer.IsEmpty)
        {
            buffers.Return(packet.Buffer);
        }

        foreach (var piece in packet.Pieces ?? [])
        {
            buffers.Return(piece);
        }

        budget.Release(packet.Cost);
    }

    public void Dispose()
    {
        buffers.Dispose();
        spill.Dispose();
    }

    // Each read of a socket has its price. All channels use the same few buffers in turn, so that the processor has them.
    private void PassOnInLargePieces(ChannelReader channel, int length, IDeviceStateSink sink)
    {
        var buffer = buffers.Rent(PacketBuffers.ChunkSize);
        try
        {
            for (int left = length; left > 0;)
            {
                var part = buffer.Span[..Math.Min(left, LargePiece)];
                channel.ReadExactly(part, What);
                sink.Write(part);
                left -= part.Length;
            }
        }
        finally
        {
            buffers.Return(buffer);
            budget.Release(PacketBuffers.ChunkSize);
        }
    }

    private void DeliverSpilled(in HeldPacket packet, IDeviceStateSink sink)
    {
        Span<byte> piece = stackalloc byte[SpillPiece];
        for (int done = 0; done < packet.Length;)
        {
            var part = piece[..Math.Min(SpillPiece, packet.Length - done)];
            spill.Read(packet.SpillOffset + done, part);
            sink.Write(part);
            done += part.Length;
        }
    }
}
