using System.Diagnostics;

namespace MigrationOps.Engine.Multifd;

/// <summary>
/// Ends a transfer over many connections when none of them has moved a byte for too long. One connection may be silent
/// for as long as another is busy, so that no connection alone can have a deadline.
/// </summary>
public sealed class ProgressWatch : IDisposable
{
    private readonly CancellationTokenSource _cancel;
    private readonly CancellationToken _caller;
    private readonly Timer? _timer;
    private readonly TimeSpan _timeout;
    private long _moved;
    private long _seen;
    private long _seenAt = Stopwatch.GetTimestamp();
    private Exception? _failure;

    /// <summary>Starts to watch.</summary>
    /// <param name="timeout">The longest time without a byte; <see cref="Timeout.InfiniteTimeSpan"/> for none.</param>
    /// <param name="cancellationToken">The caller's cancellation.</param>
    public ProgressWatch(TimeSpan timeout, CancellationToken cancellationToken)
    {
        _timeout = timeout;
        _caller = cancellationToken;
        _cancel = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Token = _cancel.Token;
        if (timeout != Timeout.InfiniteTimeSpan)
        {
            var interval = TimeSpan.FromMilliseconds(Math.Clamp(timeout.TotalMilliseconds / 8, 5, 1000));
            _timer = new Timer(Look, null, interval, interval);
        }
    }

    /// <summary>Cancelled by the caller, by the first failure, or by lack of progress.</summary>
    public CancellationToken Token { get; }

    /// <summary>True if it was lack of progress.</summary>
    public bool HasExpired { get; private set; }

    /// <summary>The first failure of any thread, or null.</summary>
    public Exception? Failure => Volatile.Read(ref _failure);

    /// <summary>Bytes moved so far.</summary>
    public long Moved => Interlocked.Read(ref _moved);

    /// <summary>The longest time without a byte.</summary>
    public TimeSpan Limit => _timeout;

    /// <summary>Told the bytes so far, from several threads; it must be quick.</summary>
    public Action<long>? Progress { get; init; }

    /// <summary>Says that bytes have moved.</summary>
    public void Count(int bytes)
    {
        long moved = Interlocked.Add(ref _moved, bytes);
        Progress?.Invoke(moved);
    }

    /// <summary>Keeps the first failure of any thread and ends the others.</summary>
    /// <param name="failure">The failure.</param>
    /// <param name="before">Called if it is the first, before the others are ended.</param>
    public void Fail(Exception failure, Action? before = null)
    {
        if (Interlocked.CompareExchange(ref _failure, failure, null) is null)
        {
            before?.Invoke();
            _cancel.Cancel();
        }
    }

    /// <summary>Throws the first failure, if there was one: the caller's cancellation before all else.</summary>
    /// <param name="describe">Says what was missing when nothing moved any more.</param>
    public void ThrowIfFailed(Func<Exception> describe)
    {
        if (_failure is null && !HasExpired)
        {
            return;
        }

        _caller.ThrowIfCancellationRequested();
        if (HasExpired && _failure is null or OperationCanceledException)
        {
            throw describe();
        }

        System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(_failure!);
    }

    /// <summary>
    /// The failure to report when the thread of the caller ended with this one: another thread's, if that was the first, because
    /// this one may be its consequence; but never in place of the caller's own cancellation.
    /// </summary>
    internal Exception? Blame(Exception? failure)
        => failure is OperationCanceledException && _caller.IsCancellationRequested ? failure : Failure ?? failure;

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_timer is not null)
        {
            // Waits for a running callback, which would cancel a disposed source.
            using var done = new ManualResetEvent(false);
            if (_timer.Dispose(done))
            {
                done.WaitOne();
            }
        }

        _cancel.Dispose();
    }

    private void Look(object? state)
    {
        long moved = Moved;
        if (moved != _seen)
        {
            (_seen, _seenAt) = (moved, Stopwatch.GetTimestamp());
        }
        else if (Stopwatch.GetElapsedTime(_seenAt) >= _timeout)
        {
            HasExpired = true;
            _cancel.Cancel();
        }
    }
}
