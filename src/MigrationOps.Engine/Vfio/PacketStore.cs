using System.Buffers;
using MigrationOps.Engine.Multifd;

namespace MigrationOps.Engine.Vfio;

/// <summary>Where the packets of all devices wait for their turn: in memory within the budget, else in the spill file.</summary>
internal sealed class PacketStore(MemoryBudget budget, SpillFile spill) : IDisposable
{
    private const string What = "a packet's data";
    private const int SpillPiece = 64 * 1024;

    /// <summary>Takes room in memory for a packet, if there is any.</summary>
    internal bool TryReserve(int length) => budget.TryCharge(MemoryBudget.CostOf(length));

    /// <summary>Reads a packet's data from its channel into memory that has been reserved.</summary>
    internal HeldPacket ReadToMemory(ChannelReader channel, int length)
    {
        long cost = MemoryBudget.CostOf(length);
        if (length <= MemoryBudget.ChunkSize)
        {
            Memory<byte> buffer = length == 0 ? default : budget.Rent(length);
            channel.ReadExactly(buffer.Span[..length], What);
            return HeldPacket.InMemory(buffer, length, cost);
        }

        var pieces = new Memory<byte>[(length + MemoryBudget.ChunkSize - 1) / MemoryBudget.ChunkSize];
        for (int i = 0; i < pieces.Length; i++)
        {
            int size = Math.Min(MemoryBudget.ChunkSize, length - i * MemoryBudget.ChunkSize);
            pieces[i] = budget.Rent(size);
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
    internal static void PassOn(ChannelReader channel, int length, IDeviceStateSink sink)
    {
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
                sink.Write(pieces[i].Span[..Math.Min(MemoryBudget.ChunkSize, packet.Length - i * MemoryBudget.ChunkSize)]);
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
            budget.Return(packet.Buffer);
        }

        foreach (var piece in packet.Pieces ?? [])
        {
            budget.Return(piece);
        }

        budget.Release(packet.Cost);
    }

    public void Dispose() => spill.Dispose();

    private void DeliverSpilled(in HeldPacket packet, IDeviceStateSink sink)
    {
        byte[] piece = ArrayPool<byte>.Shared.Rent(SpillPiece);
        try
        {
            for (int done = 0; done < packet.Length;)
            {
                var part = piece.AsSpan(0, Math.Min(SpillPiece, packet.Length - done));
                spill.Read(packet.SpillOffset + done, part);
                sink.Write(part);
                done += part.Length;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(piece);
        }
    }
}
