namespace MigrationOps.Engine.Qmp;

/// <summary>One event as it was received.</summary>
/// <param name="Sequence">Counts the events of this monitor from 1, over reconnections.</param>
/// <param name="Event">What QEMU sent, with its host's clock.</param>
/// <param name="ReceivedAt">This host's clock when it was read.</param>
/// <param name="Ticks">This process's monotonic clock (<see cref="System.Diagnostics.Stopwatch"/>) at the same moment.</param>
internal sealed record ReceivedEvent(long Sequence, QmpMessage.Event Event, DateTimeOffset ReceivedAt, long Ticks);

/// <summary>
/// The last events of a monitor, for those who ask later, and a signal for those who wait. It holds a fixed number: of a flood
/// the oldest are dropped and counted.
/// </summary>
internal sealed class QmpEventLog
{
    /// <summary>How many events are kept.</summary>
    internal const int Capacity = 4096;

    private readonly Lock _gate = new();
    private readonly Queue<ReceivedEvent> _events = new();
    private TaskCompletionSource? _next;
    private long _last;
    private QmpException? _end;

    /// <summary>The number of the last event; 0 before the first.</summary>
    internal long Last => Volatile.Read(ref _last);

    internal void Add(QmpMessage.Event happened)
    {
        TaskCompletionSource? waiting;
        lock (_gate)
        {
            if (_events.Count == Capacity)
            {
                _events.Dequeue();
            }

            _events.Enqueue(new ReceivedEvent(++_last, happened, DateTimeOffset.UtcNow, System.Diagnostics.Stopwatch.GetTimestamp()));
            waiting = _next;
            _next = null;
        }

        waiting?.TrySetResult();
    }

    /// <summary>Nothing comes any more until <see cref="Reopen"/>: whoever waits fails with the reason.</summary>
    internal void End(QmpException reason)
    {
        TaskCompletionSource? waiting;
        lock (_gate)
        {
            _end = reason;
            waiting = _next;
            _next = null;
        }

        waiting?.TrySetResult();
    }

    internal void Reopen()
    {
        lock (_gate)
        {
            _end = null;
        }
    }

    /// <summary>The events behind a number that are still kept.</summary>
    /// <param name="after">The number of the last event that the caller has seen.</param>
    /// <param name="dropped">How many behind that number are not kept any more.</param>
    internal ReceivedEvent[] Since(long after, out long dropped)
    {
        lock (_gate)
        {
            dropped = Math.Max(0, _last - _events.Count - after);
            return [.. _events.Where(received => received.Sequence > after)];
        }
    }

    /// <summary>Waits until there is an event behind a number.</summary>
    /// <exception cref="QmpException">The connection has ended, and nothing is left to be read.</exception>
    internal Task WaitAsync(long after, CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            if (_last > after)
            {
                return Task.CompletedTask;
            }

            if (_end is not null)
            {
                throw new QmpException(_end.Reason, _end.Message, _end, _end.RecommendedAction) { Target = _end.Target };
            }

            return (_next ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task.WaitAsync(cancellationToken);
        }
    }
}
