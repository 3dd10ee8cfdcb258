using System.Diagnostics;
using System.Runtime.ExceptionServices;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Runs a driver on a thread of its own and watches it, because a handler is code of others and may hang where no
/// deadline of ours reaches. What hangs cannot be ended; it is left behind, and <see cref="Exit"/> stops it from working on with
/// the migration should it ever return.
/// </summary>
internal sealed class HandlerWatch
{
    /// <summary>How long a cancelled handler has before it is left behind: Ctrl-C ends within a second.</summary>
    internal static readonly TimeSpan CancelGrace = TimeSpan.FromMilliseconds(500);

    private readonly TimeSpan _timeout;
    private readonly CancellationToken _cancellationToken;
    private readonly Lock _gate = new();
    private Func<SaveVmException>? _inside;
    private bool _abandoned;
    private long _movedAt;
    private int _waiting;

    private HandlerWatch(TimeSpan timeout, CancellationToken cancellationToken)
    {
        _timeout = timeout;
        _cancellationToken = cancellationToken;
    }

    /// <summary>Runs the body to its end, or until one of its handlers hangs, or is cancelled and does not notice.</summary>
    /// <param name="name">The thread's name.</param>
    /// <param name="timeout">How long a handler may neither move a byte nor return.</param>
    /// <param name="body">What runs.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <returns>How it failed, and whether its thread was left behind and still runs.</returns>
    internal static (Exception? Failure, bool LeftBehind) Run(string name, TimeSpan timeout, Action<HandlerWatch> body, CancellationToken cancellationToken)
    {
        var watch = new HandlerWatch(timeout, cancellationToken);
        Exception? failure = null;
        var thread = SideThread.Start(name, () =>
        {
            try
            {
                body(watch);
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        if (watch.Await(thread.Ended) is { } stuck)
        {
            return (stuck, true);
        }

        thread.Join();
        thread.Dispose();
        return (failure, false);
    }

    /// <summary>A handler is about to be called; the function makes the failure if it hangs.</summary>
    internal void Enter(Func<SaveVmException> hangs)
    {
        lock (_gate)
        {
            ThrowIfAbandoned();
            Moved();
            _inside = hangs;
        }
    }

    /// <summary>The handler has returned or thrown.</summary>
    internal void Exit()
    {
        lock (_gate)
        {
            _inside = null;
            ThrowIfAbandoned();
        }
    }

    /// <summary>A wait begins that has a deadline of its own.</summary>
    internal void BeginWait()
    {
        lock (_gate)
        {
            ThrowIfAbandoned();
            _waiting++;
        }
    }

    /// <summary>That wait is over.</summary>
    internal void EndWait()
    {
        lock (_gate)
        {
            Moved();
            _waiting--;
        }
    }

    /// <summary>The handler did something.</summary>
    internal void Moved() => Volatile.Write(ref _movedAt, Stopwatch.GetTimestamp());

    private void ThrowIfAbandoned()
    {
        if (_abandoned)
        {
            throw new OperationCanceledException("The migration has ended without waiting for this handler.");
        }
    }

    // Null once the thread has ended; otherwise why it is left behind.
    private Exception? Await(WaitHandle ended)
    {
        WaitHandle[] handles = [ended, _cancellationToken.WaitHandle];
        var wait = _timeout;
        while (true)
        {
            int which = WaitHandle.WaitAny(handles, Milliseconds(wait));
            if (which == 0)
            {
                return null;
            }

            if (which == 1)
            {
                return ended.WaitOne(CancelGrace) ? null : Abandon(new OperationCanceledException(_cancellationToken));
            }

            if (FindHangingCall(out wait) is { } stuck)
            {
                return stuck;
            }
        }
    }

    private Exception Abandon(Exception why)
    {
        lock (_gate)
        {
            _abandoned = true;
            return why;
        }
    }

    // The decision and the abandonment are one step, so that a handler that returns just now is either in time or too late.
    private SaveVmException? FindHangingCall(out TimeSpan wait)
    {
        lock (_gate)
        {
            wait = _timeout;
            if (_inside is null || _waiting > 0)
            {
                return null;
            }

            if (wait == Timeout.InfiniteTimeSpan)
            {
                return null;
            }

            wait -= Stopwatch.GetElapsedTime(Volatile.Read(ref _movedAt));
            _abandoned = wait <= TimeSpan.Zero;
            return _abandoned ? _inside() : null;
        }
    }

    private static int Milliseconds(TimeSpan wait)
        => wait == Timeout.InfiniteTimeSpan ? -1 : (int)Math.Clamp(Math.Ceiling(wait.TotalMilliseconds), 1, int.MaxValue);

    /// <summary>Throws a failure that <see cref="Run"/> gave, with the trace of where it came from.</summary>
    internal static void Throw(Exception failure) => ExceptionDispatchInfo.Throw(failure);
}
