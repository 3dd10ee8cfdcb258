using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The source's end of the return path: what the target has said on this connection, and waiting for what it has still to say.
/// Without a return path the target says nothing, and nothing is waited for.
/// </summary>
internal sealed class SourceReturnPath(SourceSession session) : IDisposable
{
    // How long the target has to tell why it closed a connection.
    private static readonly TimeSpan ReasonPatience = TimeSpan.FromSeconds(1);

    private ReturnPathListener? _listener;

    /// <summary>What the target has still to allow before the device may be stopped.</summary>
    internal SwitchoverAcks Acks { get; } = new(session.Options.SwitchoverAck
        && MachineVersion.AcksPerDevice(session.Options.SwitchoverAckCount, session.Options.MachineType));

    /// <summary>Listens to the target, on a thread of its own.</summary>
    /// <param name="stream">The connection; it stays the caller's.</param>
    /// <param name="postcopy">Gets what belongs to postcopy; null in a migration that stays in pre-copy.</param>
    internal void Open(Stream stream, PostcopyAnswers? postcopy) => _listener = new ReturnPathListener(stream, Acks, postcopy);

    /// <summary>Ends it with its connection, whose waits have been cancelled.</summary>
    internal void Close()
    {
        _listener?.Dispose();
        _listener = null;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Close();
        Acks.Dispose();
    }

    /// <summary>Fails if the target has failed, which it may at any moment.</summary>
    internal void Check()
    {
        session.Scope.CancellationToken.ThrowIfCancellationRequested();
        if (Over is { } failure)
        {
            throw failure;
        }
    }

    /// <summary>How the target ended, if it did, while there was still something to come.</summary>
    internal Exception? Over => _listener is { } listener && listener.Ended.WaitOne(0)
        ? listener.Failure ?? TooEarly($", while the source was at byte {session.Output.Position:N0} of the stream")
        : null;

    /// <summary>Set once the target has said its last word; null without a return path.</summary>
    internal WaitHandle? Ended => _listener?.Ended;

    /// <summary>Gives the target time to say why it closes its connections.</summary>
    internal void AwaitReason() => _listener?.Ended.WaitOne(ReasonPatience);

    /// <summary>Waits for the target's word on how it ended.</summary>
    internal void AwaitEnd()
    {
        if (_listener is not { } listener)
        {
            return;
        }

        try
        {
            Await(listener.Ended, $"whether it loaded the {session.Output.Position:N0} bytes of the stream");
        }
        catch (OperationCanceledException) when (listener.HasFinished)
        {
            // The target's word counts more than a cancellation: its device may run already.
        }

        if (listener.Failure is { } failure)
        {
            throw failure;
        }
    }

    /// <summary>Waits for something that the target says; its failure and the deadline end it.</summary>
    internal void Await(WaitHandle said, string what)
    {
        var listener = _listener!;
        var timeout = session.Scope.Timeout;
        var cancelled = session.Scope.CancellationToken.WaitHandle;
        session.Watch.BeginWait();
        int which = WaitHandle.WaitAny(said == listener.Ended ? [said, cancelled] : [said, cancelled, listener.Ended], timeout);
        session.Watch.EndWait();
        session.Scope.CancellationToken.ThrowIfCancellationRequested();
        switch (which)
        {
            case 0:
                return;
            case 2:
                throw listener.Failure ?? TooEarly($"; it was asked {what}");
            default:
                throw new SaveVmException(SaveVmError.PeerSilent, $"The target did not say within {timeout.TotalSeconds:0.###} s {what}.")
                { ByteOffset = session.Output.Position, Section = "return path" };
        }
    }

    /// <summary>Waits for a time, which a cancellation, the end of the target or its acknowledgement ends.</summary>
    internal void Rest(TimeSpan time, bool untilAcknowledged)
    {
        var cancelled = session.Scope.CancellationToken.WaitHandle;
        WaitHandle[] handles = _listener is not { } listener ? [cancelled]
            : untilAcknowledged ? [cancelled, listener.Ended, Acks.All]
            : [cancelled, listener.Ended];
        WaitHandle.WaitAny(handles, time);
        session.Scope.CancellationToken.ThrowIfCancellationRequested();
    }

    /// <summary>The failure that tells most: when the connection broke because the target failed, the target's own word.</summary>
    internal Exception? Explain(Exception? failure)
        => failure is SaveVmException { Reason: SaveVmError.ConnectionLost } && _listener is { } listener
            && listener.Ended.WaitOne(ReasonPatience) && listener.Failure is SaveVmException { Reason: SaveVmError.TargetFailed } told ? told : failure;

    /// <summary>Looks once more at what the target said before the connection is given up.</summary>
    internal void Judge(Exception failure)
    {
        if (_listener is { } listener)
        {
            session.Postcopy?.Judge(failure, listener.Ended, ReasonPatience);
        }
    }

    private StreamException TooEarly(string when) => new(StreamError.InvalidReturnPath, $"The target said that it has finished{when}.")
    { Section = "return path", ByteOffset = session.Output.Position };
}
