using System.Runtime.InteropServices;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>What becomes of the memory for packets when a receipt has ended.</summary>
public class PacketBuffersTests
{
    private const long Limit = 64 << 20;

    private readonly ManualTime _time = new();
    private readonly SpareSlabs _spare;

    public PacketBuffersTests() => _spare = new SpareSlabs(_time);

    [Fact]
    public void The_next_receipt_has_the_memory_of_the_last()
    {
        byte[] slab = Use(returned: true);

        using var next = new PacketBuffers(Limit, _spare);
        Assert.Same(slab, ArrayOf(next.Rent(PacketBuffers.ChunkSize)));
    }

    [Fact]
    public void Memory_that_may_still_be_written_to_is_not_given_to_another()
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
    public void Memory_that_no_receipt_asks_for_in_time_is_given_up()
    {
        byte[] slab = Use(returned: true);
        Assert.Equal(SpareSlabs.KeptFor, _time.Due);
        _time.Fire();

        using var next = new PacketBuffers(Limit, _spare);
        Assert.NotSame(slab, ArrayOf(next.Rent(PacketBuffers.ChunkSize)));
    }

    [Fact]
    public void No_more_is_kept_than_one_receipt_uses_by_default()
    {
        long most = new ReassemblyOptions().MemoryBudget;
        _spare.Keep(Enumerable.Range(0, 20).Select(_ => GC.AllocateUninitializedArray<byte>(16 * PacketBuffers.ChunkSize)));

        long kept = 0;
        while (_spare.Take() is { } slab)
        {
            kept += slab.Length;
        }

        Assert.Equal(most, kept);
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

    /// <summary>A clock of one timer, which goes off when the test says so.</summary>
    private sealed class ManualTime : TimeProvider
    {
        internal TimeSpan Due { get; private set; }

        internal Action Fire { get; private set; } = () => { };

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            Fire = () => callback(state);
            Due = dueTime;
            return new Timer(this);
        }

        private sealed class Timer(ManualTime time) : ITimer
        {
            public bool Change(TimeSpan dueTime, TimeSpan period)
            {
                time.Due = dueTime;
                return true;
            }

            public void Dispose() => time.Due = Timeout.InfiniteTimeSpan;

            public ValueTask DisposeAsync()
            {
                Dispose();
                return ValueTask.CompletedTask;
            }
        }
    }
}
