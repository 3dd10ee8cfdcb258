using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>The threads on which devices of a target load beside the main stream, and what the end of a migration waits for.</summary>
internal sealed class LoadThreads(TransferScope scope, Action failing) : IDisposable
{
    private readonly Lock _gate = new();
    private readonly List<(EntryContext Context, SideThread Thread)> _threads = [];
    private readonly CancellationTokenSource _streamEnded = new();
    private int _open = 1;
    private bool _closed;

    /// <summary>Cancelled when nothing more comes, in sections or in packets.</summary>
    internal CancellationToken StreamEnded => _streamEnded.Token;

    /// <summary>Waits for the multifd channels' ends too before it says so.</summary>
    internal void AwaitEndOf(IncomingChannels channels)
    {
        _open++;
        channels.AllEnded = EndOne;
    }

    /// <summary>Starts a thread for a device.</summary>
    internal void Start(EntryContext context, Action<CancellationToken> body)
    {
        lock (_gate)
        {
            if (_closed)
            {
                throw new InvalidOperationException($"Everything has been loaded; {context.Entry} starts a load thread too late.");
            }

            _threads.Add((context, SideThread.Start($"load {context.Entry}", scope, () => Run(context.Entry, body), failing)));
        }
    }

    /// <summary>Waits, after the end mark, until every device has everything.</summary>
    /// <param name="devices">The devices of the migration.</param>
    /// <param name="channels">The multifd channels, or null.</param>
    internal void Join(IEnumerable<EntryContext> devices, IncomingChannels? channels)
    {
        EndOne();

        // One that has no thread to say so has everything when nothing more can come.
        var waiting = channels is null ? null
            : devices.FirstOrDefault(d => d.Entry.Has(SaveVmHandler.LoadStateBuffer) && !HasThread(d));
        if (waiting is not null)
        {
            channels!.Join($"'{waiting.Entry}' takes packets until all channels have ended");
        }

        // A thread may start another one before it returns.
        for (int i = 0; Next(i) is var (context, thread); i++)
        {
            Await(context, thread, channels);
        }

        scope.CancellationToken.ThrowIfCancellationRequested();
        channels?.Check();
    }

    /// <summary>Waits for the threads, whose tokens have been cancelled.</summary>
    /// <returns>False if one was left behind.</returns>
    internal bool End()
    {
        SideThread[] threads;
        lock (_gate)
        {
            _closed = true;
            threads = [.. _threads.Select(t => t.Thread)];
        }

        return SideThread.JoinAll(threads, HandlerWatch.CancelGrace);
    }

    /// <summary>Gives back what the threads waited on; all of them have ended.</summary>
    public void Dispose()
    {
        _threads.ForEach(t => t.Thread.Dispose());
        _streamEnded.Dispose();
    }

    private void EndOne()
    {
        if (Interlocked.Decrement(ref _open) == 0)
        {
            _streamEnded.Cancel();
        }
    }

    private void Await(EntryContext context, SideThread thread, IncomingChannels? channels)
    {
        Func<long> moved = channels is null ? () => 0 : channels.Moved;
        if (thread.Await(moved, scope))
        {
            return;
        }

        if (channels?.FindHangingHandler() is { } hanging)
        {
            throw hanging;
        }

        // It may be able to say what it waits for.
        _streamEnded.Cancel();
        SideThread.JoinAll([thread], HandlerWatch.CancelGrace);
        scope.CancellationToken.ThrowIfCancellationRequested();
        throw new SaveVmException(SaveVmError.HandlerTimeout,
            $"The load thread of {HandlerCaller.Name(context.Entry)} did not return within {scope.Timeout.TotalSeconds:0.###} s after the main stream had ended.")
        { Section = HandlerCaller.Name(context.Entry), Target = context.Entry.ToString() };
    }

    private bool HasThread(EntryContext context)
    {
        lock (_gate)
        {
            return _threads.Exists(t => t.Context == context);
        }
    }

    // Null once all have been given; none may start after that.
    private (EntryContext Context, SideThread Thread)? Next(int index)
    {
        lock (_gate)
        {
            _closed = index == _threads.Count;
            return _closed ? null : _threads[index];
        }
    }

    private void Run(SaveVmEntry entry, Action<CancellationToken> body)
    {
        try
        {
            body(scope.CancellationToken);
        }
        catch (Exception e) when (e is not OperationCanceledException || !scope.CancellationToken.IsCancellationRequested)
        {
            throw new SaveVmException(SaveVmError.HandlerFailed,
                $"The load thread of {HandlerCaller.Name(entry)} failed: {e.Message}", e)
            { Section = HandlerCaller.Name(entry), Target = entry.ToString() };
        }
    }
}
