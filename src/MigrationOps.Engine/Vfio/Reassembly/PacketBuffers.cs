using System.Buffers;
using System.Runtime.InteropServices;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// The buffers for the packets of one receipt. Large ones are parts of slabs, which go to the next receipt of the process:
/// memory that was never touched costs several times what is copied into it.
/// </summary>
/// <param name="limit">Bytes that are in use together at most.</param>
/// <param name="spare">Where slabs come from, and go in the end.</param>
internal sealed class PacketBuffers(long limit, SpareSlabs spare) : IDisposable
{
    /// <summary>The largest single buffer; a larger packet takes several.</summary>
    internal const int ChunkSize = 1024 * 1024;

    /// <summary>The largest buffer that is not a chunk.</summary>
    internal const int SmallLimit = ChunkSize / 2;

    private const int SlabSize = 16 * ChunkSize;

    private readonly Stack<Memory<byte>> _chunks = new();
    private readonly List<byte[]> _slabs = [];

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

    public void Dispose()
    {
        lock (_chunks)
        {
            // A buffer that did not come back may still be written to.
            if (_chunks.Count * (long)ChunkSize == _slabs.Sum(s => (long)s.Length))
            {
                spare.Keep(_slabs.FindAll(s => s.Length == SlabSize));
            }

            _slabs.Clear();
            _chunks.Clear();
        }
    }

    // Several at once, on large pages: touching fresh memory page by page costs more than copying the data into it.
    private void AddChunks()
    {
        int size = (int)Math.Clamp(limit / ChunkSize * ChunkSize, ChunkSize, SlabSize);
        byte[]? slab = size == SlabSize ? spare.Take() : null;
        if (slab is null)
        {
            slab = GC.AllocateUninitializedArray<byte>(size, pinned: true);
            HugePages.TryUse(slab);
        }

        _slabs.Add(slab);
        for (int offset = 0; offset < slab.Length; offset += ChunkSize)
        {
            _chunks.Push(slab.AsMemory(offset, ChunkSize));
        }
    }
}
