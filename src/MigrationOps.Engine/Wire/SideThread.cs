namespace MigrationOps.Engine.Wire;

/// <summary>
/// A thread beside the caller's: the one place where the engine starts threads. What a thread of a transfer throws is the transfer's
/// failure, and ends every wait of it.
/// </summary>
internal sealed class SideThread : IDisposable
{
    private readonly ManualResetEvent _ended = new(false);
    private readonly Thread _thread;

    private SideThread(string name, Action body)
    {
        _thread = new Thread(() =>
        {
            body();
            _ended.Set();
        })
        { IsBackground = true, Name = name };
        _thread.Start();
    }

    /// <summary>Set once it has ended.</summary>
    internal WaitHandle Ended => _ended;

    /// <summary>True once it has ended.</summary>
    internal bool HasEnded => _ended.WaitOne(0);

    /// <summary>Starts a thread of a transfer.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="scope">Keeps its failure. That the scope has ended is no failure: whoever ended it knows why.</param>
    /// <param name="body">What runs.</param>
    /// <param name="failing">Called if its failure is the first, while the other threads still wait.</param>
    internal static SideThread Start(string name, TransferScope scope, Action body, Action? failing = null)
        => new(name, () =>
        {
            try
            {
                body();
            }
            catch (Exception e)
            {
                scope.Fail(e, failing);
            }
        });

    /// <summary>Starts a thread that is in no transfer, or that keeps its failure itself.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="body">What runs; an exception that leaves it ends the process.</param>
    internal static SideThread Start(string name, Action body) => new(name, body);

    /// <summary>Waits until it has ended, however long that takes.</summary>
    internal void Join() => _thread.Join();

    /// <summary>Waits for its end, for as long as something moves.</summary>
    /// <param name="moved">A number that changes with every progress of the migration.</param>
    /// <param name="scope">How long nothing may move, and cancellation.</param>
    /// <param name="abandoned">Set when there is nothing to wait for any more, whatever the thread does.</param>
    /// <returns>False if nothing has moved for that long, or the wait was abandoned.</returns>
    internal bool Await(Func<long> moved, TransferScope scope, WaitHandle? abandoned = null)
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
    /// <param name="threads">The threads.</param>
    /// <param name="patience">How long to wait for all of them together.</param>
    /// <returns>False if one was left behind.</returns>
    internal static bool JoinAll(IEnumerable<SideThread> threads, TimeSpan patience)
    {
        var deadline = new Deadline(patience);
        bool ended = true;
        foreach (var thread in threads)
        {
            ended &= thread._ended.WaitOne(deadline.RemainingMilliseconds);
        }

        return ended;
    }

    /// <summary>Gives back what it waits on; it has ended.</summary>
    public void Dispose() => _ended.Dispose();
}
