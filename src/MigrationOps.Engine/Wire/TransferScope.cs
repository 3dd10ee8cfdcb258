using System.Diagnostics;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Wire;

/// <summary>What of a transfer must move within the timeout.</summary>
public enum ProgressRule
{
    /// <summary>Every connection: each wait has a deadline of its own.</summary>
    EachConnection,

    /// <summary>Any connection: one may be silent for as long as another is busy, so that no wait has a deadline.</summary>
    WholeTransfer,
}

/// <summary>
/// Bounds one transfer: how long it may stay without progress, on each connection or on all of them together; cancellation; and the
/// first failure of any of its threads, which ends the waits of the others. Any number of threads may wait in one scope at once.
/// Dispose it after they have ended.
/// <code>
/// caller's token ──┐
/// first failure  ──┼─→ CancellationToken → every wait of the scope, and of the scopes inside it, ends
/// no progress    ──┘
/// Nest:  a transfer inside this one, whose failure does not end this one
/// Until: waits of this transfer that end earlier than it; a failure there is this transfer's failure
/// </code>
/// </summary>
public sealed class TransferScope : IDisposable
{
    /// <summary>The deadline of one wait unless the caller says otherwise.</summary>
    public static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(30);

    private readonly CancellationToken _caller;
    private readonly CancellationTokenSource _end;
    private readonly TransferScope _transfer;
    private readonly TransferScope? _outer;
    private readonly SafeFileHandle _cancelEvent;
    private readonly CancellationTokenRegistration _registration;
    private readonly Timer? _timer;
    private long _moved;
    private long _seen;
    private long _seenAt;
    private volatile bool _interrupted;
    private volatile bool _expired;
    private Exception? _failure;

    /// <summary>Creates the bounds of a transfer in which every connection must move.</summary>
    /// <param name="timeout">The longest time without progress; <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> for none.</param>
    /// <param name="cancellationToken">Ends every wait at once.</param>
    /// <exception cref="ArgumentOutOfRangeException">The timeout is neither positive nor infinite.</exception>
    public TransferScope(TimeSpan timeout, CancellationToken cancellationToken = default)
        : this(timeout, ProgressRule.EachConnection, cancellationToken)
    {
    }

    /// <summary>Creates the bounds.</summary>
    /// <param name="timeout">The longest time without progress; <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> for none.</param>
    /// <param name="rule">What must move within the timeout.</param>
    /// <param name="cancellationToken">Ends every wait at once.</param>
    /// <exception cref="ArgumentOutOfRangeException">The timeout is neither positive nor infinite.</exception>
    public TransferScope(TimeSpan timeout, ProgressRule rule, CancellationToken cancellationToken = default)
        : this(timeout, rule, CancellationTokenSource.CreateLinkedTokenSource(cancellationToken), transfer: null, outer: null, cancellationToken)
    {
        if (rule == ProgressRule.WholeTransfer && timeout != System.Threading.Timeout.InfiniteTimeSpan)
        {
            var interval = TimeSpan.FromMilliseconds(Math.Clamp(timeout.TotalMilliseconds / 8, 5, 1000));
            _seenAt = Stopwatch.GetTimestamp();
            _timer = new Timer(CheckProgress, null, interval, interval);
        }
    }

    private TransferScope(
        TimeSpan limit, ProgressRule rule, CancellationTokenSource end, TransferScope? transfer, TransferScope? outer, CancellationToken caller)
    {
        _end = end;
        if (limit <= TimeSpan.Zero && limit != System.Threading.Timeout.InfiniteTimeSpan)
        {
            end.Dispose();
            throw new ArgumentOutOfRangeException(nameof(limit), limit, "The timeout must be positive.");
        }

        Limit = limit;
        Rule = rule;
        _caller = caller;
        _transfer = transfer ?? this;
        _outer = outer;
        CancellationToken = end.Token;
        _cancelEvent = EventFd.Create();
        _registration = CancellationToken.UnsafeRegister(static state => EventFd.Signal((SafeFileHandle)state!), _cancelEvent);
    }

    /// <summary>The longest time without progress, of what <see cref="Rule"/> says.</summary>
    public TimeSpan Limit { get; }

    /// <summary>What must move within <see cref="Limit"/>.</summary>
    public ProgressRule Rule { get; }

    /// <summary>The longest that one wait may take; infinite where only the whole transfer has a limit.</summary>
    public TimeSpan Timeout => Rule == ProgressRule.EachConnection ? Limit : System.Threading.Timeout.InfiniteTimeSpan;

    /// <summary>Cancelled by the caller, by the first failure, by lack of progress, or by <see cref="Cancel"/>.</summary>
    public CancellationToken CancellationToken { get; }

    /// <summary>True if the whole transfer has moved nothing for too long.</summary>
    public bool HasExpired => _transfer._expired;

    /// <summary>The first failure of any thread, or null.</summary>
    public Exception? Failure => Volatile.Read(ref _transfer._failure);

    /// <summary>Bytes that were counted so far.</summary>
    public long Moved => Interlocked.Read(ref _transfer._moved);

    /// <summary>Told the bytes so far, from several threads; it must be quick.</summary>
    public Action<long>? Progress { get; init; }

    /// <summary>A transfer inside this one: ended with it, under the same limits, with failures of its own. What it moves is progress of both.</summary>
    public TransferScope Nest()
        => new(Timeout, ProgressRule.EachConnection, CancellationTokenSource.CreateLinkedTokenSource(CancellationToken), transfer: null, outer: this, CancellationToken);

    /// <summary>Waits of this transfer that may end before it does: with the token, or by <see cref="Cancel"/>.</summary>
    /// <param name="ended">Ends these waits alone.</param>
    public TransferScope Until(CancellationToken ended = default)
        => new(Limit, Rule, CancellationTokenSource.CreateLinkedTokenSource(CancellationToken, ended), _transfer, outer: null, CancellationToken);

    /// <summary>Says that bytes have moved.</summary>
    public void Count(int bytes) => Count((long)bytes);

    /// <inheritdoc cref="Count(int)"/>
    public void Count(long bytes)
    {
        long moved = Interlocked.Add(ref _transfer._moved, bytes);
        _transfer.Progress?.Invoke(moved);
        _transfer._outer?.Count(bytes);
    }

    /// <summary>Ends every wait, which is no failure.</summary>
    public void Cancel() => _end.Cancel();

    /// <summary>Keeps the first failure of any thread and ends the others.</summary>
    /// <param name="failure">The failure. A cancellation after the scope has ended only says that it has.</param>
    /// <param name="before">Called if it is the first, before the others are ended.</param>
    public void Fail(Exception failure, Action? before = null)
    {
        if (failure is OperationCanceledException && CancellationToken.IsCancellationRequested)
        {
            _transfer._interrupted = true;
        }
        else if (Interlocked.CompareExchange(ref _transfer._failure, failure, null) is null)
        {
            before?.Invoke();
            _transfer._end.Cancel();
        }
    }

    /// <summary>Throws the first failure, if there was one: the caller's cancellation before all else.</summary>
    /// <param name="describe">Says what was missing when nothing moved any more.</param>
    public void ThrowIfFailed(Func<Exception> describe)
    {
        ArgumentNullException.ThrowIfNull(describe);
        if (Failure is null && !HasExpired && !_transfer._interrupted)
        {
            return;
        }

        _caller.ThrowIfCancellationRequested();
        if (Failure is { } failure)
        {
            ExceptionDispatchInfo.Throw(failure);
        }

        throw HasExpired ? describe() : new OperationCanceledException(CancellationToken);
    }

    /// <summary>
    /// The failure to report when the thread of the caller ended with this one: another thread's, if that was the first, because
    /// this one may be its consequence; but never in place of the caller's own cancellation.
    /// </summary>
    internal Exception? FirstFailure(Exception? failure)
        => failure is OperationCanceledException && _caller.IsCancellationRequested ? failure : Failure ?? failure;

    /// <summary>The moment at which a wait that starts now fails.</summary>
    internal Deadline StartDeadline() => new(Timeout);

    /// <summary>Waits until the descriptor has one of the events, an error or a hang-up.</summary>
    /// <param name="handle">The descriptor; it stays the caller's.</param>
    /// <param name="events">What to wait for.</param>
    /// <param name="deadline">When to give up.</param>
    /// <param name="waitingFor">What the error names: "the reply to …".</param>
    /// <param name="target">What the error has as its target: the name of the stream that stands still.</param>
    /// <exception cref="WireException"><see cref="WireError.Timeout"/>.</exception>
    /// <exception cref="OperationCanceledException">The scope was cancelled.</exception>
    internal PollEvents Wait(SafeHandle handle, PollEvents events, Deadline deadline, string waitingFor, string? target = null)
        => TryWait(handle, events, deadline) is not PollEvents.None and var returned ? returned : throw Expired(waitingFor, target);

    /// <summary>Waits like <see cref="Wait"/>, and gives <see cref="PollEvents.None"/> when the deadline has passed.</summary>
    internal PollEvents TryWait(SafeHandle handle, PollEvents events, Deadline deadline)
    {
        ArgumentNullException.ThrowIfNull(handle);
        using var fd = new BorrowedFd(handle);
        Span<Poll.PollFd> fds =
        [
            new Poll.PollFd { Fd = fd.Number, Events = events },
            new Poll.PollFd { Fd = (int)_cancelEvent.DangerousGetHandle(), Events = PollEvents.Readable },
        ];
        while (true)
        {
            int ready = Poll.Wait(fds, deadline.RemainingMilliseconds);
            CancellationToken.ThrowIfCancellationRequested();
            if (fds[0].Returned != PollEvents.None || (ready == 0 && deadline.HasPassed))
            {
                return fds[0].Returned;
            }
        }
    }

    /// <summary>Waits until one of the descriptors can be read, or has an error or a hang-up.</summary>
    /// <returns>Its place in the list; -1 when the deadline has passed.</returns>
    internal int TryWaitAny(IReadOnlyList<SafeHandle> handles, Deadline deadline)
    {
        var fds = new Poll.PollFd[handles.Count + 1];
        for (int i = 0; i < handles.Count; i++)
        {
            // The owner of the list keeps them open.
            fds[i] = new Poll.PollFd { Fd = (int)handles[i].DangerousGetHandle(), Events = PollEvents.Readable };
        }

        fds[^1] = new Poll.PollFd { Fd = (int)_cancelEvent.DangerousGetHandle(), Events = PollEvents.Readable };
        while (true)
        {
            int ready = Poll.Wait(fds, deadline.RemainingMilliseconds);
            CancellationToken.ThrowIfCancellationRequested();
            int index = Array.FindIndex(fds, 0, handles.Count, fd => fd.Returned != PollEvents.None);
            if (index >= 0 || (ready == 0 && deadline.HasPassed))
            {
                return index;
            }
        }
    }

    /// <summary>The failure of a wait that has outlived its deadline.</summary>
    /// <param name="waitingFor">What was waited for.</param>
    /// <param name="target">What stands still.</param>
    internal WireException Expired(string waitingFor, string? target = null)
        => new(WireError.Timeout, $"Nothing moved within {Timeout.TotalSeconds:0.###} s while waiting for {waitingFor}.")
        {
            Target = target,
        };

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

        _registration.Dispose();
        _end.Dispose();
        _cancelEvent.Dispose();
    }

    private void CheckProgress(object? state)
    {
        long moved = Moved;
        if (moved != _seen)
        {
            (_seen, _seenAt) = (moved, Stopwatch.GetTimestamp());
        }
        else if (Stopwatch.GetElapsedTime(_seenAt) >= Limit)
        {
            _expired = true;
            _end.Cancel();
        }
    }
}
