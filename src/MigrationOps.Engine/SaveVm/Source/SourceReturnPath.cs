using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The source's end of one connection's return path: what the target has said on it, and waiting for what it has still to say.
/// Without a return path the target says nothing, and nothing is waited for.
/// </summary>
/// <param name="scope">How long it is waited, and cancellation.</param>
/// <param name="acks">Gets the acknowledgements of the switchover; stays the caller's.</param>
internal sealed class SourceReturnPath(TransferScope scope, SwitchoverAcks acks)
{
    /// <summary>How long the target has to tell why it closed a connection.</summary>
    internal static readonly TimeSpan ReasonPatience = TimeSpan.FromSeconds(1);

    private OpenPath? _open;

    /// <summary>What the target has still to allow before the device may be stopped.</summary>
    internal SwitchoverAcks Acks => acks;

    /// <summary>How the target ended, if it did, while there was still something to come.</summary>
    internal Exception? Over => _open is { } path && path.Listener.Ended.WaitOne(0)
        ? path.Listener.Failure ?? TooEarly(path, $", while the source was at byte {path.Output.Position:N0} of the stream")
        : null;

    /// <summary>Set once the target will say nothing more; null without a return path.</summary>
    internal WaitHandle? Ended => _open?.Listener.Ended;

    /// <summary>Listens to the target, on a thread of its own.</summary>
    /// <param name="stream">The connection; it stays the caller's.</param>
    /// <param name="output">The main stream, whose position errors name.</param>
    /// <param name="watch">Told when the driver waits.</param>
    /// <param name="postcopy">Gets the messages of postcopy; null in a migration that stays in pre-copy.</param>
    internal void Open(Stream stream, OutgoingStream output, HandlerWatch watch, PostcopyAnswers? postcopy)
        => _open = new OpenPath(new ReturnPathListener(stream, acks, postcopy), output, watch);

    /// <summary>Ends it with its connection, whose waits have been cancelled.</summary>
    internal void Close()
    {
        _open?.Listener.Dispose();
        _open = null;
    }

    /// <summary>Fails if the target has failed, which it may at any moment.</summary>
    internal void Check()
    {
        scope.CancellationToken.ThrowIfCancellationRequested();
        if (Over is { } failure)
        {
            throw failure;
        }
    }

    /// <summary>Gives the target time to say why it closes its connections.</summary>
    internal void AwaitReason() => Ended?.WaitOne(ReasonPatience);

    /// <summary>Waits until the target has said how it ended.</summary>
    internal void AwaitEnd()
    {
        if (_open is not { } path)
        {
            return;
        }

        try
        {
            Await(path.Listener.Ended, $"whether it loaded the {path.Output.Position:N0} bytes of the stream");
        }
        catch (OperationCanceledException) when (path.Listener.HasFinished)
        {
            // The target's answer counts more than a cancellation: its device may run already.
        }

        if (path.Listener.Failure is { } failure)
        {
            throw failure;
        }
    }

    /// <summary>Waits for something that the target says; its failure and the deadline end it.</summary>
    internal void Await(WaitHandle said, string what)
    {
        var path = _open ?? throw new InvalidOperationException("The return path is not open.");
        var ended = path.Listener.Ended;
        var cancelled = scope.CancellationToken.WaitHandle;
        path.Watch.BeginWait();
        int which = WaitHandle.WaitAny(said == ended ? [said, cancelled] : [said, cancelled, ended], scope.Timeout);
        path.Watch.EndWait();
        scope.CancellationToken.ThrowIfCancellationRequested();
        switch (which)
        {
            case 0:
                return;
            case 2:
                throw path.Listener.Failure ?? TooEarly(path, $"; it was asked {what}");
            default:
                throw new SaveVmException(SaveVmError.PeerSilent, $"The target did not say within {scope.Timeout.TotalSeconds:0.###} s {what}.")
                { ByteOffset = path.Output.Position, Section = "return path" };
        }
    }

    /// <summary>Waits for a time, which a cancellation, the end of the target or its acknowledgement ends.</summary>
    internal void WaitFor(TimeSpan time, bool untilAcknowledged)
    {
        var cancelled = scope.CancellationToken.WaitHandle;
        WaitHandle[] handles = Ended is not { } ended ? [cancelled]
            : untilAcknowledged ? [cancelled, ended, acks.All]
            : [cancelled, ended];
        WaitHandle.WaitAny(handles, time);
        scope.CancellationToken.ThrowIfCancellationRequested();
    }

    /// <summary>The failure that tells most: when the connection broke because the target failed, what the target said.</summary>
    internal Exception? Explain(Exception? failure)
        => failure is SaveVmException { Reason: SaveVmError.ConnectionLost } && _open is { Listener: var listener }
            && listener.Ended.WaitOne(ReasonPatience) && listener.Failure is SaveVmException { Reason: SaveVmError.TargetFailed } told ? told : failure;

    private static StreamException TooEarly(OpenPath path, string when) => new(StreamError.InvalidReturnPath, $"The target said that it has finished{when}.")
    { Section = "return path", ByteOffset = path.Output.Position };

    private sealed record OpenPath(ReturnPathListener Listener, OutgoingStream Output, HandlerWatch Watch);
}
