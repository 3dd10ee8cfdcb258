using System.Numerics;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// All memory that packets of one receipt may hold. A buffer is charged before it is filled, so that what is on its way
/// counts as well.
/// </summary>
internal sealed class PacketBudget(long limit)
{
    // What keeping track of one packet costs, wherever its bytes are: a part of the budget is for that alone, or full
    // buffers would leave no room to note what went to the spill file.
    private const int EntryCost = 64;
    private const int FewestEntries = 4096;

    private readonly long _entries = Math.Max(limit / 16 / EntryCost, FewestEntries);
    private long _tracked;
    private long _used;

    /// <summary>Bytes in use.</summary>
    internal long Used => Interlocked.Read(ref _used);

    /// <summary>True if a quarter of it is in use, or more.</summary>
    internal bool IsQuarterUsed => Used >= limit / 4;

    /// <summary>Notes one more packet.</summary>
    /// <param name="header">Its header.</param>
    /// <param name="due">The index of the packet that is due.</param>
    /// <param name="place">Where it was found.</param>
    /// <exception cref="VfioException"><see cref="VfioError.TooManyOutOfOrder"/>.</exception>
    internal void Track(VfioPacketHeader header, uint due, in PacketPlace place)
    {
        if (Interlocked.Increment(ref _tracked) > _entries)
        {
            throw VfioException.At(VfioError.TooManyOutOfOrder, place,
                $"so many packets wait for packet {due} that the budget of {limit:N0} bytes cannot keep track of them", header.Index);
        }
    }

    internal void Untrack() => Interlocked.Decrement(ref _tracked);

    /// <summary>The limit in bytes.</summary>
    internal long Limit => limit;

    internal bool TryCharge(long bytes)
    {
        if (Interlocked.Add(ref _used, bytes) <= limit - limit / 16)
        {
            return true;
        }

        Interlocked.Add(ref _used, -bytes);
        return false;
    }

    internal void Release(long bytes) => Interlocked.Add(ref _used, -bytes);

    /// <summary>What a packet of this length is charged with.</summary>
    internal static long CostOf(int length)
    {
        int whole = length / PacketBuffers.ChunkSize * PacketBuffers.ChunkSize;
        int rest = length - whole;
        return whole + (rest == 0 ? 0 : rest <= PacketBuffers.SmallLimit ? (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(rest, 16)) : PacketBuffers.ChunkSize);
    }
}
