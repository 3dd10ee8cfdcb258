using System.Text;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The source driver: brings the registered devices over on one connection, with multifd channels beside it, with a switch to
/// postcopy, or with both.
/// <code>
/// prepare → [channels] → header, configuration → [return path] → [ADVISE] → setup → ( iterate → pending? )* → stop the device
///         → [SWITCHOVER_START] → END sections, and beside them a worker per device that sends packets → FULL sections
///         → EOF → [description] → [target confirms] → cleanup
///   postcopy: … stop the device → END of who cannot do postcopy → package, RUN → ( iterate )* → END of the others → EOF → …
///             from RUN on a failure leads to paused → Resume → RESUME_ACK → ( iterate )* … or to Abandon → cleanup
/// </code>
/// From every state before RUN a failure or a cancellation leads to cleanup, and to resuming the device if it had been stopped.
/// After RUN the VM may run on the target, so that the device is not resumed here; the failure says whose the VM is.
/// </summary>
internal sealed class SaveVmSource : MigrationDriver<SaveVmSourceOptions, SourceSession>
{
    /// <summary>A migration of what is registered now.</summary>
    /// <param name="registry">The devices.</param>
    /// <param name="options">How to drive it.</param>
    /// <param name="logger">Gets the phases; null for none.</param>
    /// <exception cref="ArgumentException">Options that contradict each other.</exception>
    internal SaveVmSource(SaveVmRegistry registry, SaveVmSourceOptions options, ILogger? logger = null)
        : base(registry, options, SaveVmHandler.SaveCleanup, logger)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxBandwidth ?? 1, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxRounds ?? 1, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.DowntimeLimit, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(options.Turn, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(options.MaxDuration ?? TimeSpan.MaxValue, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfNegative(options.MultifdChannels);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.MultifdChannels, SaveVmSourceOptions.MostMultifdChannels);
        ArgumentOutOfRangeException.ThrowIfNegative(options.PostcopyAfter);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxPostcopyBandwidth ?? 1, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxPackage, 1);
        if ((options.SwitchoverAck || options.Postcopy) && !options.ReturnPath)
        {
            throw new ArgumentException(options.Postcopy ? "Postcopy needs the return path, which is off."
                : "The switchover's acknowledgement comes over the return path, which is off.", nameof(options));
        }

        if (options.MachineType is { } machine && Encoding.UTF8.GetByteCount(machine) is 0 or > StreamFormat.MaxMachineType)
        {
            throw new SaveVmException(SaveVmError.InvalidName, $"The machine type has {machine.Length:N0} characters; a stream has room for 1 to {StreamFormat.MaxMachineType:N0} bytes.",
                action: "Give the name of a machine type, such as pc-q35-10.0.");
        }
    }

    private protected override MigrationStreamTransfer Start(Func<TransferScope, Stream> open, TransferScope scope)
    {
        int channels = Options.MultifdChannels;
        var session = new SourceSession([.. Entries.Select(e => new EntryContext(e, isSource: true, approve: null, scope.CancellationToken)
        {
            Channels = channels,
            AwaitsAck = Options.SwitchoverAck,
        })], Options);
        return Drive(session, channels, scope, (run, target, connections) => session.Migrate(run, target, connections, open));
    }

    private protected override MigrationStreamTransfer Continue(SourceSession session, Func<TransferScope, Stream> open, TransferScope scope)
        => Drive(session, 0, scope, (run, target, _) => session.Recover(run, target, Options, open));

    // Handlers and threads live in one scope, which ends with the first failure; their waits in another, which ends with the driver's own part.
    private MigrationStreamTransfer Drive(
        SourceSession session, int count, TransferScope scope, Action<MigrationRun, SourceReturnPath, OutgoingChannels?> body)
    {
        var handlers = scope.Nest();
        var waits = handlers.Until();
        var channels = count == 0 ? null : new OutgoingChannels(count, waits);
        var target = new SourceReturnPath(waits, session.Acks);
        foreach (var context in session.Contexts)
        {
            context.Renew(handlers.CancellationToken);
        }

        var (failure, leftBehind) = HandlerWatch.Run("migration source", scope.Timeout,
            watch => body(MigrationRun.Begin(waits, watch, Log), target, channels), handlers.CancellationToken);
        failure = target.Explain(handlers.FirstFailure(failure));
        if (failure is not null)
        {
            session.ReadOutcome(target, failure);
        }

        waits.Cancel();
        target.Close();
        leftBehind |= channels?.End() == false;
        if (!leftBehind)
        {
            channels?.Dispose();
            waits.Dispose();
            handlers.Dispose();
        }

        if (failure is not null && session.Owner != MigrationOwner.Source)
        {
            throw FailAfterSwitch(session, failure, leftBehind, scope);
        }

        var warnings = Clean(session, failure is null ? MigrationOwner.Target : session.Owner, scope);
        if (failure is null)
        {
            var result = session.Result(channels, warnings);
            TransferMetrics.Record("migration-stream", "send", result.Bytes + result.ChannelBytes, result.Duration);
            return result;
        }

        SaveVmLog.Failed(Log, "source", failure.Message);
        WithOwner(failure, MigrationOwner.Source);
        if (session.DeviceStopped)
        {
            ResumeDevice(failure);
        }

        HandlerWatch.Throw(failure);
        throw failure;
    }

    // The target may run: nothing here may bring the device back, and what it still waits for must not be thrown away.
    private Exception FailAfterSwitch(SourceSession session, Exception failure, bool leftBehind, TransferScope scope)
    {
        var owner = session.Owner;
        string whose = owner == MigrationOwner.Target ? "The target owns the VM" : "The target may be running the VM; it has not confirmed";
        string? obstacle = leftBehind ? "a handler was left behind" : session.Obstacle;
        SaveVmException thrown;
        if (obstacle is null)
        {
            Pause(session);
            thrown = new SaveVmException(SaveVmError.PostcopyPaused,
                $"{failure.Message} The migration is paused after its switch to postcopy. {whose}; the device stays stopped here.", failure)
            { Section = (failure as MigrationOpsException)?.Section, ByteOffset = (failure as MigrationOpsException)?.ByteOffset };
        }
        else
        {
            Clean(session, owner, scope);
            thrown = new SaveVmException((failure as SaveVmException)?.Reason ?? SaveVmError.HandlerFailed,
                $"{failure.Message} The migration had switched to postcopy and cannot be resumed, because {obstacle}. {whose}; the device stays stopped here.",
                failure, "Look at the target: its VM lacks what had not been sent. Start only one of both.");
        }

        SaveVmLog.Failed(Log, "source", thrown.Message);
        if (failure is OperationCanceledException)
        {
            return failure;
        }

        return WithOwner(thrown, owner);
    }

    private void ResumeDevice(Exception failure)
    {
        try
        {
            Options.ResumeDevice?.Invoke();
            SaveVmLog.Phase(Log, "the device is resumed");
        }
        catch (Exception e)
        {
            throw new SaveVmException(SaveVmError.HandlerFailed,
                $"{failure.Message} And the device could not be resumed: {e.Message}", failure, "Resume the device by hand, then look at the cause.")
            { Owner = MigrationOwner.Source };
        }
    }
}
