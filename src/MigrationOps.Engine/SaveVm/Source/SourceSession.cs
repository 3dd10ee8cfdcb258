using System.Diagnostics;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// One run of the source driver, from its preparation to its end, over one connection or several. Its parts are the sections that it
/// writes, the return path, the rounds (<see cref="Convergence"/>), and the end in pre-copy or postcopy.
/// </summary>
internal sealed class SourceSession : IDisposable
{
    private readonly EntryContext[] _contexts;
    private readonly ILogger _logger;
    private readonly DateTimeOffset _startedAt = DateTimeOffset.UtcNow;
    private readonly long _start = Stopwatch.GetTimestamp();
    private OutgoingChannels? _channels;
    private OutgoingStream? _output;
    private MigrationDowntime? _downtime;
    private TimeSpan _duration;
    private long _bytesBefore;
    private int _rounds;
    private int _recoveries;

    internal SourceSession(EntryContext[] contexts, SaveVmSourceOptions options, ILogger logger)
    {
        _contexts = contexts;
        _logger = logger;
        Options = options;
        Sections = new SourceSections(this, logger);
        ReturnPath = new SourceReturnPath(this);
    }

    internal bool DeviceStopped { get; private set; }

    internal TimeSpan Elapsed => Stopwatch.GetElapsedTime(_start);

    internal IReadOnlyList<EntryContext> Contexts => _contexts;

    internal SaveVmSourceOptions Options { get; set; }

    internal SourceSections Sections { get; }

    internal SourceReturnPath ReturnPath { get; }

    /// <summary>Postcopy's part; null in a migration that stays in pre-copy.</summary>
    internal PostcopySource? Postcopy { get; private set; }

    /// <summary>Where sections go: the main stream, or a package on its way.</summary>
    internal OutgoingStream Output { get => _output!; set => _output = value; }

    internal HandlerCaller Caller { get; private set; } = null!;

    internal HandlerWatch Watch { get; private set; } = null!;

    internal TransferScope Scope { get; private set; } = null!;

    /// <summary>Whose the VM is, should the migration fail now.</summary>
    internal MigrationOwner Owner => Postcopy?.Owner ?? MigrationOwner.Source;

    /// <summary>The bounds of the run that begins now.</summary>
    internal void Begin(OutgoingChannels? channels, TransferScope bounds, CancellationToken cancellation)
    {
        (_channels, Scope) = (channels, bounds);
        foreach (var context in _contexts)
        {
            context.Renew(cancellation);
        }
    }

    /// <summary>The whole migration, up to its end or its first failure.</summary>
    internal void Migrate(HandlerWatch watch, Func<TransferScope, Stream> open)
    {
        BeginWatch(watch);
        Postcopy = Options.Postcopy ? new PostcopySource(this, _logger) : null;
        Prepare();
        Connect(open);
        Setup();
        var convergence = new Convergence(this, _logger);
        bool late = convergence.Run();
        _downtime = late ? Postcopy!.Switch(_channels) : new PrecopyCompletion(this, _channels, _logger).Run();
        if (late)
        {
            Postcopy!.Finish(convergence);
        }

        _duration = Elapsed;
    }

    /// <summary>What a connection that was lost after the switch has left, over a new one.</summary>
    internal void Recover(HandlerWatch watch, Func<TransferScope, Stream> open)
    {
        BeginWatch(watch);
        var stream = open(Scope);
        _bytesBefore += Output.Position;
        _output = new OutgoingStream(stream, watch);
        Postcopy!.Answers.Renew();
        ReturnPath.Open(stream, Postcopy.Answers);
        Postcopy.Resume();
        _recoveries++;
        Postcopy.Finish(new Convergence(this, _logger));
        _duration = Elapsed;
    }

    /// <summary>A round has ended.</summary>
    internal int CountRound() => ++_rounds;

    /// <summary>Stops the device, so that its state no longer changes.</summary>
    internal void StopDevice()
    {
        // From here on the device may stand still, also if stopping it fails half-way.
        DeviceStopped = true;
        Caller.Device("stopped", Options.StopDevice);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        ReturnPath.Dispose();
        Postcopy?.Dispose();
        Sections.Dispose();
    }

    internal MigrationStreamTransfer Result(List<string> warnings) => new()
    {
        Direction = MigrationStreamDirection.Send,
        Uri = Options.Uri,
        MachineType = Options.MachineType ?? "",
        Bytes = _bytesBefore + Output.Position,
        MultifdChannels = _channels?.Count ?? 0,
        ChannelPackets = _channels?.Packets ?? 0,
        ChannelBytes = _channels?.Bytes ?? 0,
        Sections = Sections.Count,
        Devices = Sections.Devices,
        Rounds = _rounds,
        SwitchoverAcknowledged = Options.SwitchoverAck && ReturnPath.Acks.Received > 0,
        Confirmed = Options.ReturnPath,
        StartedAt = _startedAt,
        Duration = _duration,
        Downtime = _downtime!,
        Postcopy = Postcopy is { Started: true },
        Recoveries = _recoveries,
        Owner = Options.ReturnPath ? MigrationOwner.Target : MigrationOwner.Unknown,
        Warnings = [.. warnings],
    };

    private void Prepare()
    {
        SaveVmLog.Phase(_logger, "prepare");
        foreach (var context in _contexts)
        {
            if (context.Entry.Has(SaveVmHandler.SavePrepare))
            {
                Caller.Call(context.Entry, SaveVmHandler.SavePrepare, () => context.Entry.Handlers.SavePrepare(context));
            }
        }
    }

    private void Connect(Func<TransferScope, Stream> open)
    {
        var stream = open(Scope);
        _channels?.Connect(open);
        _output = new OutgoingStream(stream, Watch);
        ElementWriter.Header(_output);
        if (Options.MachineType is not null)
        {
            ElementWriter.Configuration(_output, Options.MachineType);
        }

        if (Options.ReturnPath)
        {
            ElementWriter.Command(_output, StreamCommandId.OpenReturnPath);
            ElementWriter.Ping(_output, 1);
            ReturnPath.Open(stream, Postcopy?.Answers);
            _channels?.Broken = ReturnPath.AwaitReason;
        }

        Postcopy?.Advise();
    }

    private void Setup()
    {
        SaveVmLog.Phase(_logger, "setup");
        Sections.Each(SaveVmHandler.SaveSetup, Sections.Setup);
        Output.Flush();
        ReturnPath.Check();
    }

    private void BeginWatch(HandlerWatch watch)
    {
        Watch = watch;
        Caller = new HandlerCaller(watch, () => _output?.Position ?? 0, () => _output?.Failure, Scope);
    }
}
