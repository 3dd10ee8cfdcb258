using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>A thread of a migration beside the driver's own. What it throws is the migration's failure, and ends every wait of it.</summary>
internal sealed class SideThread : IDisposable
{
    private readonly ManualResetEvent _ended = new(false);

    private SideThread()
    {
    }

    /// <summary>Set once it has ended.</summary>
    internal WaitHandle Ended => _ended;

    /// <summary>True once it has ended.</summary>
    internal bool HasEnded => _ended.WaitOne(0);

    /// <summary>Starts a thread.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="watch">Keeps its failure.</param>
    /// <param name="scope">Its cancellation is no failure: whoever cancelled knows why.</param>
    /// <param name="body">What runs.</param>
    /// <param name="failing">Called if its failure is the first, while the other threads still wait.</param>
    internal static SideThread Start(string name, ProgressWatch watch, IoScope scope, Action body, Action? failing = null)
    {
        var side = new SideThread();
        new Thread(() => side.Run(watch, scope, body, failing)) { IsBackground = true, Name = name }.Start();
        return side;
    }

    /// <summary>Waits for its end, for as long as something moves.</summary>
    /// <param name="moved">A number that changes with every progress of the migration.</param>
    /// <param name="scope">How long nothing may move, and cancellation.</param>
    /// <param name="abandoned">Set when there is nothing to wait for any more, whatever the thread does.</param>
    /// <returns>False if nothing has moved for that long, or it was abandoned up.</returns>
    internal bool Await(Func<long> moved, IoScope scope, WaitHandle? abandoned = null)
    {
        WaitHandle[] handles = abandoned is null ? [_ended, scope.CancellationToken.WaitHandle] : [_ended, scope.CancellationToken.WaitHandle, abandoned];
        while (true)
        {
            long before = moved();
            int which = WaitHandle.WaitAny(handles, scope.Timeout);
            scope.CancellationToken.ThrowIfCancellationRequested();
            if (which is 0 or 2 || moved() == before)
            {
                return which == 0;
            }
        }
    }

    /// <summary>Waits for threads whose waits have been cancelled; one that hangs in a handler is left behind.</summary>
    /// <returns>False if one was left behind.</returns>
    internal static bool JoinAll(IEnumerable<SideThread> threads)
    {
        var patience = new Deadline(HandlerWatch.CancelGrace);
        bool ended = true;
        foreach (var thread in threads)
        {
            ended &= thread._ended.WaitOne(patience.RemainingMilliseconds);
        }

        return ended;
    }

    /// <summary>Gives back what it waits on; it has ended.</summary>
    public void Dispose() => _ended.Dispose();

    private void Run(ProgressWatch watch, IoScope scope, Action body, Action? failing)
    {
        try
        {
            body();
        }
        catch (OperationCanceledException) when (scope.CancellationToken.IsCancellationRequested)
        {
            // See above.
        }
        catch (Exception e)
        {
            watch.Fail(e, failing);
        }

        _ended.Set();
    }
}
