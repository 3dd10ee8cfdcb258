namespace MigrationOps.Engine.Qemu;

/// <summary>What reading a stream may hold in memory, whatever the stream announces.</summary>
internal sealed class MemoryBudget
{
    /// <summary>64 MiB, beyond the data that is exported.</summary>
    public const long Default = 64 << 20;

    private readonly long _limit;

    /// <summary>A budget of so many bytes.</summary>
    public MemoryBudget(long limit = Default)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(limit);
        _limit = limit;
    }

    /// <summary>How many bytes have been taken.</summary>
    public long Used { get; private set; }

    /// <summary>Takes bytes, or says that they are not there.</summary>
    internal bool TryTake(long bytes)
    {
        if (bytes > _limit - Used)
        {
            return false;
        }

        Used += bytes;
        return true;
    }

    /// <summary>Takes bytes for something.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.LimitExceeded"/>.</exception>
    internal void Take(long bytes, string what)
    {
        if (!TryTake(bytes))
        {
            throw new StreamException(StreamError.LimitExceeded,
                $"Reading {what} takes {bytes:N0} bytes of memory; of {_limit:N0} allowed, {Used:N0} are in use.")
            { Section = what };
        }
    }

    internal void Return(long bytes) => Used -= bytes;
}
