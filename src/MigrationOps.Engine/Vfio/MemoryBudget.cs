using System.Buffers;
using System.Numerics;
using System.Runtime.InteropServices;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// All memory that packets of one receipt may hold, and the buffers for it. A buffer is charged before it is filled, so
/// that what is on its way counts as well.
/// </summary>
internal sealed class MemoryBudget(long limit)
{
    /// <summary>The largest single buffer; a larger packet takes several.</summary>
    internal const int ChunkSize = 1024 * 1024;

    private const int SmallLimit = ChunkSize / 2;
    private const int SlabSize = 16 * ChunkSize;

    // What keeping track of one packet costs, wherever its bytes are: a part of the budget is for that alone, or full
    // buffers would leave no room to note what went to the spill file.
    private const int EntryCost = 64;
    private const int FewestEntries = 4096;

    private readonly Stack<Memory<byte>> _chunks = new();
    private readonly long _entries = Math.Max(limit / 16 / EntryCost, FewestEntries);
    private long _tracked;
    private long _used;

    /// <summary>Bytes in use.</summary>
    internal long Used => Interlocked.Read(ref _used);

    /// <summary>Notes one more packet; false if that is too many.</summary>
    internal bool TryTrack() => Interlocked.Increment(ref _tracked) <= _entries;

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
        int whole = length / ChunkSize * ChunkSize;
        int rest = length - whole;
        return whole + (rest == 0 ? 0 : rest <= SmallLimit ? (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(rest, 16)) : ChunkSize);
    }

    /// <summary>A buffer for one piece of a packet, which has been charged.</summary>
    internal Memory<byte> Rent(int length)
    {
        if (length <= SmallLimit)
        {
            return ArrayPool<byte>.Shared.Rent(length);
        }

        lock (_chunks)
        {
            if (_chunks.Count == 0)
            {
                AddChunks();
            }

            return _chunks.Pop();
        }
    }

    internal void Return(Memory<byte> buffer)
    {
        if (buffer.Length != ChunkSize)
        {
            MemoryMarshal.TryGetArray<byte>(buffer, out var array);
            ArrayPool<byte>.Shared.Return(array.Array!);
            return;
        }

        // The one that was used last is the one that the processor still has.
        lock (_chunks)
        {
            _chunks.Push(buffer);
        }
    }

    // Several at once, on large pages: touching fresh memory page by page costs more than copying the data into it.
    private void AddChunks()
    {
        byte[] slab = GC.AllocateUninitializedArray<byte>((int)Math.Clamp(limit / ChunkSize * ChunkSize, ChunkSize, SlabSize), pinned: true);
        HugePages.TryUse(slab);
        for (int offset = 0; offset < slab.Length; offset += ChunkSize)
        {
            _chunks.Push(slab.AsMemory(offset, ChunkSize));
        }
    }
}
