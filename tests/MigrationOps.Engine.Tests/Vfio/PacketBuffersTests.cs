using System.Runtime.InteropServices;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>What becomes of the memory for packets when a receipt has ended. The tests hold the arrays, so that none is collected.</summary>
public class PacketBuffersTests
{
    private const long Limit = 64 << 20;

    private readonly SpareSlabs _spare = new();

    [Fact]
    public void The_next_receipt_has_the_memory_of_the_last()
    {
        byte[] slab = Use(returned: true);

        using var next = new PacketBuffers(Limit, _spare);
        Assert.Same(slab, ArrayOf(next.Rent(PacketBuffers.ChunkSize)));
    }

    [Fact]
    public void Memory_that_somebody_may_still_write_to_is_not_given_to_another()
    {
        byte[] slab = Use(returned: false);

        using var next = new PacketBuffers(Limit, _spare);
        Assert.NotSame(slab, ArrayOf(next.Rent(PacketBuffers.ChunkSize)));
    }

    [Fact]
    public void Two_receipts_at_a_time_share_nothing()
    {
        byte[] slab = Use(returned: true);

        using var one = new PacketBuffers(Limit, _spare);
        using var other = new PacketBuffers(Limit, _spare);
        Assert.Same(slab, ArrayOf(one.Rent(PacketBuffers.ChunkSize)));
        Assert.NotSame(slab, ArrayOf(other.Rent(PacketBuffers.ChunkSize)));
    }

    [Fact]
    public void A_small_budget_takes_no_large_memory()
    {
        byte[] slab = Use(returned: true);

        using var next = new PacketBuffers(2 << 20, _spare);
        byte[] small = ArrayOf(next.Rent(PacketBuffers.ChunkSize));
        Assert.NotSame(slab, small);
        Assert.Equal(2 << 20, small.Length);
    }

    [Fact]
    public void Buffers_in_use_do_not_overlap()
    {
        using var buffers = new PacketBuffers(Limit, _spare);
        var rented = Enumerable.Range(0, 40).Select(_ => buffers.Rent(PacketBuffers.ChunkSize)).ToList();
        for (int i = 0; i < rented.Count; i++)
        {
            rented[i].Span.Fill((byte)i);
        }

        Assert.All(rented.Select((b, i) => (b, i)), p => Assert.Equal(-1, p.b.Span.IndexOfAnyExcept((byte)p.i)));
        rented.ForEach(buffers.Return);
    }

    private byte[] Use(bool returned)
    {
        using var buffers = new PacketBuffers(Limit, _spare);
        var chunk = buffers.Rent(PacketBuffers.ChunkSize);
        if (returned)
        {
            buffers.Return(chunk);
        }

        return ArrayOf(chunk);
    }

    private static byte[] ArrayOf(Memory<byte> buffer)
    {
        Assert.True(MemoryMarshal.TryGetArray<byte>(buffer, out var array));
        return array.Array!;
    }
}
