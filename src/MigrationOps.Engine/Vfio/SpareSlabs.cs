namespace MigrationOps.Engine.Vfio;

/// <summary>Slabs of receipts that have ended, for the next one. The garbage collector takes what nobody has asked for.</summary>
internal sealed class SpareSlabs
{
    private readonly Stack<WeakReference<byte[]>> _slabs = new();

    /// <summary>Those of this process.</summary>
    internal static SpareSlabs Shared { get; } = new();

    internal void Keep(IEnumerable<byte[]> slabs)
    {
        lock (_slabs)
        {
            foreach (byte[] slab in slabs)
            {
                _slabs.Push(new WeakReference<byte[]>(slab));
            }
        }
    }

    /// <summary>One of them, which is the caller's now; null if there is none.</summary>
    internal byte[]? Take()
    {
        lock (_slabs)
        {
            while (_slabs.TryPop(out var reference))
            {
                if (reference.TryGetTarget(out byte[]? slab))
                {
                    return slab;
                }
            }

            return null;
        }
    }
}
