namespace MigrationOps.Engine.Moving;

/// <summary>
/// Tells at the passes of a migration whether it still comes nearer to its end. The best of the recent passes is compared with
/// the best of those before: when it is not clearly smaller, the migration has stalled, and an action is due. A pure function of what
/// it was given.
/// </summary>
/// <param name="window">How many passes are recent.</param>
internal sealed class StallRule(int window = 4)
{
    // The margin within which two passes count as the same, as KubeVirt has it.
    private const double Margin = 0.04;
    private const double Smoothing = 0.5;

    private readonly List<long> _remaining = [];
    private long? _pass;

    /// <summary>The smoothed rate at which memory is sent, in bytes per second; 0 before it is known.</summary>
    internal double BytesPerSecond { get; private set; }

    /// <summary>What was left at the best of the recent passes.</summary>
    internal long BestRemaining => _remaining.Count == 0 ? 0 : _remaining.TakeLast(window).Min();

    /// <summary>The downtime that a switch would have taken there; null before a rate is known.</summary>
    internal TimeSpan? ImpliedDowntime => BytesPerSecond > 0 ? TimeSpan.FromSeconds(Math.Min(BestRemaining / BytesPerSecond, 1e6)) : null;

    /// <summary>Takes a sample.</summary>
    /// <param name="pass">The number of the pass.</param>
    /// <param name="remaining">Bytes that are left, right after the pass has begun.</param>
    /// <param name="bytesPerSecond">The rate; 0 if it is not known.</param>
    /// <returns>True if an action is due: a pass has begun, and the migration has stalled.</returns>
    internal bool Take(long pass, long remaining, double bytesPerSecond)
    {
        if (bytesPerSecond > 0)
        {
            BytesPerSecond = BytesPerSecond == 0 ? bytesPerSecond : (Smoothing * bytesPerSecond) + ((1 - Smoothing) * BytesPerSecond);
        }

        // The first pass is the whole memory; it says nothing of convergence.
        if (pass == _pass || pass < 2)
        {
            return false;
        }

        _pass = pass;
        _remaining.Add(remaining);
        return _remaining.Count > window && BestRemaining >= (1 - Margin) * _remaining.SkipLast(window).Min();
    }

    /// <summary>An action was taken: what was before it is not compared with any more.</summary>
    internal void Restart() => _remaining.Clear();
}
