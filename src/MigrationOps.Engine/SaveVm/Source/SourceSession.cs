using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>What one run of the source has once its connection is there.</summary>
/// <param name="Run">Bounds, watch, caller and log.</param>
/// <param name="Sections">Writes sections into the main stream.</param>
/// <param name="ReturnPath">What the target says.</param>
internal sealed record SourceLink(MigrationRun Run, SourceSections Sections, SourceReturnPath ReturnPath)
{
    /// <summary>The main stream.</summary>
    internal OutgoingStream Output => Sections.Output;
}

/// <summary>
/// The source's part of a migration that outlives its connections: the devices, the tally, the acknowledgements, and how far postcopy
/// has come. Each connection has parts of its own, which get what they need: the sections, the return path, the rounds
/// (<see cref="Convergence"/>), and the end in pre-copy or postcopy.
/// </summary>
internal sealed class SourceSession : IMigrationSession
{
    private readonly SourceTally _tally;
    private readonly SourceDevice _device = new();
    private readonly PostcopyProgress? _postcopy;
    private SaveVmSourceOptions _options;

    internal SourceSession(IReadOnlyList<EntryContext> contexts, SaveVmSourceOptions options)
    {
        Contexts = contexts;
        _options = options;
        _tally = new SourceTally(options.PageSize);
        Acks = new SwitchoverAcks(options.SwitchoverAck && MachineVersion.AcksPerDevice(options.SwitchoverAckCount, options.MachineType));
        _postcopy = options.Postcopy ? new PostcopyProgress(contexts) : null;
    }

    /// <inheritdoc/>
    public IReadOnlyList<EntryContext> Contexts { get; }

    /// <inheritdoc/>
    public MigrationOwner Owner => _postcopy?.Owner ?? MigrationOwner.Source;

    /// <summary>What the target has still to allow before the device may be stopped.</summary>
    internal SwitchoverAcks Acks { get; }

    /// <summary>True once the device may stand still here.</summary>
    internal bool DeviceStopped => _device.IsStopped;

    /// <summary>Why a broken migration cannot be resumed; null if it can.</summary>
    internal string? Obstacle => _postcopy?.Obstacle;

    /// <summary>The whole migration, up to its end or its first failure.</summary>
    /// <param name="run">The run, which has no stream yet.</param>
    /// <param name="target">The return path, still to be opened.</param>
    /// <param name="channels">The multifd channels, still to be connected; null without.</param>
    /// <param name="open">Opens a connection.</param>
    internal void Migrate(MigrationRun run, SourceReturnPath target, OutgoingChannels? channels, Func<TransferScope, Stream> open)
    {
        Prepare(run);
        var link = Connect(run, target, channels, open);
        var postcopy = _postcopy is null ? null : new PostcopySource(link, Contexts, _options, _postcopy, _device);
        postcopy?.SendAdvise();
        Setup(link);
        var rounds = new Convergence(link, Contexts, _options, _tally, postcopy);
        if (rounds.Run())
        {
            _tally.Downtime = postcopy!.Switch(channels);
            postcopy.Finish(rounds);
        }
        else
        {
            _tally.Downtime = new PrecopyCompletion(link, _tally, _options, _device, channels).Run();
        }

        _tally.End();
    }

    /// <summary>What a connection that was lost after the switch has left, over a new one.</summary>
    /// <param name="run">The run, which has no stream yet.</param>
    /// <param name="target">The return path, still to be opened.</param>
    /// <param name="options">How it is driven from now on.</param>
    /// <param name="open">Opens the connection.</param>
    internal void Recover(MigrationRun run, SourceReturnPath target, SaveVmSourceOptions options, Func<TransferScope, Stream> open)
    {
        _options = options;
        var stream = open(run.Scope);
        var progress = _postcopy!;
        progress.Answers.Renew();
        var link = Link(run, target, stream);
        target.Open(stream, link.Output, run.Watch, progress.Answers);
        var postcopy = new PostcopySource(link, Contexts, _options, progress, _device);
        postcopy.Resume();
        _tally.Recoveries++;
        postcopy.Finish(new Convergence(link, Contexts, _options, _tally, postcopy));
        _tally.End();
    }

    /// <summary>Learns from a failure whose the VM is: what the target says may still be on its way.</summary>
    internal void ReadOutcome(SourceReturnPath target, Exception failure)
    {
        if (target.Ended is { } ended)
        {
            _postcopy?.ReadOutcome(failure, ended, SourceReturnPath.ReasonPatience);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Acks.Dispose();
        _postcopy?.Dispose();
        _tally.Dispose();
    }

    // QEMU 10.0 to 11.1 answer 0 at the end of the main stream; the thread that loads a device from the channels is not asked.
    private const string DevicesUnconfirmed = "The target said that it has loaded everything. QEMU says so too when the thread that loads a device "
        + "from the multifd channels has failed: ask the target's monitor (query-migrate: completed or failed) before anything runs on either side.";

    internal MigrationStreamTransfer Result(OutgoingChannels? channels, List<string> warnings) => new()
    {
        Direction = MigrationStreamDirection.Send,
        Uri = _options.Uri,
        MachineType = _options.MachineType ?? "",
        Bytes = _tally.Bytes,
        MultifdChannels = channels?.Count ?? 0,
        ChannelPackets = channels?.Packets ?? 0,
        ChannelBytes = channels?.Bytes ?? 0,
        Sections = _tally.Sections,
        Devices = _tally.Devices,
        Rounds = _tally.Rounds,
        SwitchoverAcknowledged = _options.SwitchoverAck && Acks.Received > 0,
        Confirmed = _options.ReturnPath && channels is not { Packets: > 0 },
        StartedAt = _tally.StartedAt.LocalDateTime,
        Duration = _tally.Duration,
        Downtime = _tally.Downtime ?? throw new InvalidOperationException("The migration has not come to its end."),
        Postcopy = _postcopy is { Started: true },
        Recoveries = _tally.Recoveries,
        Owner = _options.ReturnPath ? MigrationOwner.Target : MigrationOwner.Unknown,
        Warnings = _options.ReturnPath && channels is { Packets: > 0 } ? [.. warnings, DevicesUnconfirmed] : [.. warnings],
    };

    private void Prepare(MigrationRun run)
    {
        run.LogPhase("prepare");
        foreach (var context in Contexts)
        {
            if (context.Entry.Has(SaveVmHandler.SavePrepare))
            {
                run.Caller.Call(context.Entry, SaveVmHandler.SavePrepare, () => context.Entry.Handlers.SavePrepare(context));
            }
        }
    }

    private SourceLink Connect(MigrationRun run, SourceReturnPath target, OutgoingChannels? channels, Func<TransferScope, Stream> open)
    {
        var stream = open(run.Scope);
        channels?.Connect(open);
        var link = Link(run, target, stream);
        ElementWriter.Header(link.Output);
        if (_options.MachineType is not null)
        {
            ElementWriter.Configuration(link.Output, _options.MachineType);
        }

        if (_options.ReturnPath)
        {
            ElementWriter.Command(link.Output, StreamCommandId.OpenReturnPath);
            ElementWriter.Ping(link.Output, 1);
            target.Open(stream, link.Output, run.Watch, _postcopy?.Answers);
            channels?.Broken = target.AwaitReason;
        }

        return link;
    }

    private SourceLink Link(MigrationRun run, SourceReturnPath target, Stream stream)
    {
        var output = new OutgoingStream(stream, run.Watch);
        _tally.AddConnection(output);
        return new SourceLink(run.Over(output), new SourceSections(run, output, Contexts, _tally), target);
    }

    private static void Setup(SourceLink link)
    {
        link.Run.LogPhase("setup");
        link.Sections.Each(SaveVmHandler.SaveSetup, link.Sections.Setup);
        link.Output.Flush();
        link.ReturnPath.Check();
    }
}

/// <summary>The device on the source, which stands still from the switchover on.</summary>
internal sealed class SourceDevice
{
    /// <summary>True once it may stand still.</summary>
    internal bool IsStopped { get; private set; }

    /// <summary>Stops it, so that its state no longer changes.</summary>
    internal void Stop(HandlerCaller caller, Action? stop)
    {
        // From here on the device may stand still, also if stopping it fails half-way.
        IsStopped = true;
        caller.Device("stopped", stop);
    }
}
