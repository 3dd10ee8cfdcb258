using System.Diagnostics;

namespace MigrationOps.Engine.Relay;

/// <summary>Whether bytes may pass, and how fast: what all pumps of a relay share. Any thread may use it.</summary>
/// <param name="bytesPerSecond">The most bytes in a second; null for no limit.</param>
internal sealed class RelayFlow(long? bytesPerSecond)
{
    // Small pieces keep a slow migration even, large ones a fast one cheap.
    private const int SlicesPerSecond = 50;
    private const int SmallestSlice = 1 << 10;
    private const int LargestSlice = 256 << 10;

    private readonly object _lock = new();
    private bool _closed;
    private int _releases;
    private long _free;

    /// <summary>Nothing may pass any more, until <see cref="Release"/>.</summary>
    internal void Close()
    {
        lock (_lock)
        {
            _closed = true;
        }
    }

    /// <summary>Ends what <see cref="Close"/> and <see cref="Hold"/> began.</summary>
    internal void Release()
    {
        lock (_lock)
        {
            _closed = false;
            _releases++;
            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>Waits for the next release.</summary>
    internal void Hold(CancellationToken cancelled)
    {
        lock (_lock)
        {
            int before = _releases;
            Wait(() => _releases != before, cancelled);
        }
    }

    /// <summary>Waits until bytes may pass.</summary>
    /// <param name="wanted">How many there are.</param>
    /// <param name="isLimited">True towards the target; what the target says is not limited.</param>
    /// <param name="cancelled">Ends the wait.</param>
    /// <returns>How many of them may pass.</returns>
    internal int Take(int wanted, bool isLimited, CancellationToken cancelled)
    {
        if (Volatile.Read(ref _closed))
        {
            lock (_lock)
            {
                Wait(() => !_closed, cancelled);
            }
        }

        if (bytesPerSecond is not { } rate || !isLimited)
        {
            return wanted;
        }

        int count = Math.Min(wanted, (int)Math.Clamp(rate / SlicesPerSecond, SmallestSlice, LargestSlice));
        long now = Stopwatch.GetTimestamp();
        long turn;
        lock (_lock)
        {
            // What was not sent in time is not caught up: a network has no memory of when it was idle.
            turn = Math.Max(_free, now);
            _free = turn + (long)((double)count / rate * Stopwatch.Frequency);
        }

        if (turn > now)
        {
            cancelled.WaitHandle.WaitOne(Stopwatch.GetElapsedTime(now, turn));
        }

        cancelled.ThrowIfCancellationRequested();
        return count;
    }

    // Under the lock.
    private void Wait(Func<bool> condition, CancellationToken cancelled)
    {
        using var wake = cancelled.UnsafeRegister(
            static state =>
            {
                lock (state!)
                {
                    Monitor.PulseAll(state);
                }
            }, _lock);
        while (!condition())
        {
            cancelled.ThrowIfCancellationRequested();
            Monitor.Wait(_lock);
        }
    }
}
