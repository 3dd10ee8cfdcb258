namespace MigrationOps.Engine.Vfio;

/// <summary>
/// Slabs of receipts that have ended, for the next one, a minute at most. They are not held weakly: a collection between two
/// receipts is the rule, and would take them.
/// </summary>
internal sealed class SpareSlabs
{
    internal static readonly TimeSpan KeptFor = TimeSpan.FromMinutes(1);

    // Most receipts use less; what more one has used is the garbage collector's.
    private const int Most = 16;

    private readonly Stack<byte[]> _slabs = new();
    private readonly ITimer _end;

    internal SpareSlabs(TimeProvider time)
        => _end = time.CreateTimer(_ => Drop(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);

    /// <summary>Those of this process.</summary>
    internal static SpareSlabs Shared { get; } = new(TimeProvider.System);

    internal void Keep(IEnumerable<byte[]> slabs)
    {
        lock (_slabs)
        {
            foreach (byte[] slab in slabs.Take(Most - _slabs.Count))
            {
                _slabs.Push(slab);
            }

            _end.Change(KeptFor, Timeout.InfiniteTimeSpan);
        }
    }

    /// <summary>One of them, which is the caller's now; null if there is none.</summary>
    internal byte[]? Take()
    {
        lock (_slabs)
        {
            return _slabs.TryPop(out byte[]? slab) ? slab : null;
        }
    }

    private void Drop()
    {
        lock (_slabs)
        {
            _slabs.Clear();
        }
    }
}
