using System.Diagnostics;

namespace MigrationOps.Engine.Wire;

/// <summary>A moment on the monotonic clock after which a wait has failed.</summary>
internal readonly struct Deadline
{
    private readonly long _ticks;

    /// <summary>A deadline from now.</summary>
    /// <param name="timeout">How far away; <see cref="Timeout.InfiniteTimeSpan"/> for never.</param>
    public Deadline(TimeSpan timeout)
        => _ticks = timeout == Timeout.InfiniteTimeSpan || timeout.TotalDays > 3650
            ? long.MaxValue
            : Stopwatch.GetTimestamp() + (long)(timeout.TotalSeconds * Stopwatch.Frequency);

    /// <summary>True once it is over.</summary>
    public bool HasPassed => _ticks != long.MaxValue && Stopwatch.GetTimestamp() >= _ticks;

    /// <summary>What is left, for poll(2): -1 without a deadline, rounded up so that a wait never spins.</summary>
    public int RemainingMilliseconds
    {
        get
        {
            if (_ticks == long.MaxValue)
            {
                return -1;
            }

            double left = (_ticks - Stopwatch.GetTimestamp()) * 1000.0 / Stopwatch.Frequency;
            return (int)Math.Clamp(Math.Ceiling(left), 0, int.MaxValue);
        }
    }
}
