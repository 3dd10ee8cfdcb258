using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The target's part of a migration that outlives its connections: the devices, their sections, the tally, who has approved the
/// switchover, and how far postcopy has come. Each connection has threads and parts of its own, which get what they need.
/// </summary>
internal sealed class TargetSession : IMigrationSession
{
    private readonly ILogger _logger;
    private readonly TargetSections _sections;
    private readonly TargetTally _tally = new();
    private readonly DowntimeParts _downtime = new();
    private readonly PostcopyTarget _postcopy = new();
    private readonly SwitchoverApproval _approval = new();
    private SaveVmTargetOptions _options;

    internal TargetSession(IReadOnlyList<SaveVmEntry> entries, SaveVmTargetOptions options, ILogger logger)
    {
        _options = options;
        _logger = logger;
        Contexts = [.. entries.Select(NewContext)];
        _sections = new TargetSections(Contexts, _downtime, NewContext, logger);
    }

    /// <inheritdoc/>
    public IReadOnlyList<EntryContext> Contexts { get; }

    /// <inheritdoc/>
    public MigrationOwner Owner => _tally.SourceWasTold ? MigrationOwner.Target : _postcopy.Owner;

    /// <summary>True once the device runs here, whatever happens to the connection.</summary>
    internal bool Runs => _postcopy.Runs;

    /// <summary>The threads of the run that begins now.</summary>
    /// <param name="channels">How many multifd channels it has.</param>
    /// <param name="handlers">Cancels handlers.</param>
    /// <param name="waits">Ends every wait.</param>
    internal TargetThreads Begin(int channels, TransferScope handlers, TransferScope waits)
    {
        var returnPath = new TargetReturnPath(_options, _approval, _postcopy, _logger);
        var loading = new LoadThreads(waits, returnPath.SendFailure);
        var package = new PostcopyPackage(waits, _options.MaxPackage, _logger, failing: () =>
        {
            _postcopy.StartEnded();
            returnPath.SendFailure();
        });
        var incoming = channels == 0 ? null : new IncomingChannels(channels, _sections.Find, waits, returnPath.SendFailure);
        if (incoming is not null)
        {
            loading.AwaitEndOf(incoming);
        }

        foreach (var context in Contexts)
        {
            context.Renew(loading, returnPath.Approve, handlers.CancellationToken);
        }

        return new TargetThreads(loading, incoming, package, returnPath);
    }

    /// <summary>The whole migration, up to its end or its first failure.</summary>
    internal void Load(MigrationRun run, TargetThreads threads, Func<TransferScope, Stream> open)
    {
        var loader = Connect(run, threads, open, isResumed: false);
        var input = loader.Input;
        var channels = threads.Channels;
        var spool = _sections.Spool = _options.SpoolPath is { } path
            ? new SectionSpool(path, _sections.Find(new SaveVmAlias(StreamFormat.Ram, 0)) is null ? channels : null, run.Scope)
            : null;
        input.Tap = spool?.Output;
        input.ReadHeader();
        if (input.Peek() == StreamFormat.Configuration)
        {
            Check((StreamConfiguration)input.ReadElement(), input, spool);
        }

        input.Tap = null;
        Setup(run, loader.Caller);
        channels?.Start();
        LoadElements(run, loader, threads);
    }

    /// <summary>The rest of a migration whose connection was lost while the device ran, over a new one: it has no header.</summary>
    internal void Recover(MigrationRun run, TargetThreads threads, SaveVmTargetOptions options, Func<TransferScope, Stream> open)
    {
        _options = options;
        LoadElements(run, Connect(run, threads, open, isResumed: true), threads);
    }

    /// <summary>
    /// The driver's thread has failed. Ends the package's thread, unless it is just starting the device: then that decides whose the VM is. Tells
    /// the source if the device does not run here.
    /// </summary>
    /// <returns>The failure to report.</returns>
    internal Exception Fail(Exception failure, TransferScope handlers, TargetThreads threads)
    {
        if (threads.Package.IsLoading && _postcopy.ForbidStart())
        {
            handlers.Fail(failure);
        }

        threads.Package.End();
        _postcopy.StartEnded();
        threads.ReturnPath.SendFailure();
        return handlers.FirstFailure(failure)!;
    }

    /// <summary>The connection is lost while the device runs here.</summary>
    internal void PausePostcopy()
    {
        _postcopy.Pause();
        PostcopyCommands.Suspend(Contexts);
    }

    /// <summary>Leaves nothing of the spool file unless it is whole.</summary>
    internal void EndSpool() => _sections.Spool?.Dispose();

    /// <summary>Each run has given back what it had.</summary>
    public void Dispose()
    {
    }

    internal MigrationStreamTransfer Result(IncomingChannels? channels, List<string> warnings) => new()
    {
        Direction = MigrationStreamDirection.Receive,
        Uri = _options.Uri,
        MachineType = _tally.MachineType,
        Bytes = _tally.Bytes,
        MultifdChannels = channels?.Count ?? 0,
        ChannelPackets = channels?.Packets ?? 0,
        ChannelBytes = channels?.Bytes ?? 0,
        Sections = _sections.Count,
        Devices = _sections.Devices,
        Spooled = _sections.Spool?.Devices ?? [],
        Rounds = 0,
        SwitchoverAcknowledged = _approval.Given,
        Confirmed = true,
        StartedAt = _tally.StartedAt.LocalDateTime,
        Duration = _tally.Duration,
        Downtime = _downtime.ToRecord(),
        Postcopy = _postcopy.Runs,
        Recoveries = _postcopy.Recoveries,
        Warnings = [.. _tally.Warnings, .. warnings],
    };

    private EntryContext NewContext(SaveVmEntry entry) => new(entry, isSource: false, approve: null, CancellationToken.None)
    {
        Channels = _options.MultifdChannels,
        AwaitsAck = _options.SwitchoverAck,
    };

    private StreamLoader Connect(MigrationRun run, TargetThreads threads, Func<TransferScope, Stream> open, bool isResumed)
    {
        var (connection, first) = threads.Channels?.Accept(open) ?? (open(run.Scope), []);
        var input = new IncomingStream(connection, run.Watch, first) { MayBeSilent = () => threads.Package.IsLoading };
        _tally.AddConnection(input);
        threads.ReturnPath.Connect(connection, input, isResumed);
        return new StreamLoader(run.Over(input), input, PartsOf(run, threads), () => _options.OnProgress?.Invoke(_tally.Bytes));
    }

    private TargetParts PartsOf(MigrationRun run, TargetThreads threads)
    {
        var commands = new PostcopyCommands(Contexts, _options, _postcopy, threads.Package, threads.ReturnPath,
            () => threads.Loading.Join(Contexts, threads.Channels), run.LogPhase);
        return new TargetParts(Contexts, _sections, threads.ReturnPath, _postcopy, commands, threads.Package, _downtime);
    }

    private void LoadElements(MigrationRun run, StreamLoader loader, TargetThreads threads)
    {
        loader.Run();
        if (!_postcopy.Runs)
        {
            threads.Loading.Join(Contexts, threads.Channels);
        }

        new TargetCompletion(loader, loader.Parts, threads.Channels, _tally, run, _options.StartDevice).Finish();
        _tally.End();
    }

    private void Check(StreamConfiguration configuration, IncomingStream input, SectionSpool? spool)
    {
        _tally.MachineType = configuration.MachineType;
        string? wrong = _options.MachineType is { } machine && machine != configuration.MachineType
                ? $"The stream is of machine type '{configuration.MachineType}', expected '{machine}'"
            : _options.PageBits is { } bits && configuration.PageBits is { } given && bits != given
                ? $"The stream has pages of 2^{given} bytes, expected 2^{bits}"
            : configuration.Capabilities.FirstOrDefault(c => !_options.Capabilities.Contains(c) && (spool is null || !SectionSpool.Reads(c))) is { } capability
                ? $"The stream needs the capability '{capability}'"
            : null;
        if (wrong is not null)
        {
            throw SaveVmException.At(SaveVmError.ConfigurationMismatch, input.Offset, wrong, "configuration");
        }

        spool?.Configure(configuration);
    }

    private void Setup(MigrationRun run, HandlerCaller caller)
    {
        run.LogPhase("load setup");
        foreach (var context in Contexts)
        {
            var entry = context.Entry;
            if (entry.Has(SaveVmHandler.LoadSetup) && caller.IsActive(context))
            {
                caller.Call(entry, SaveVmHandler.LoadSetup, () => entry.Handlers.LoadSetup(context));
            }
        }

        if (!_options.SwitchoverAck)
        {
            return;
        }

        if (MachineVersion.AcksPerDevice(_options.SwitchoverAckCount, _tally.MachineType))
        {
            _approval.CountPerDevice();
            return;
        }

        foreach (var context in Contexts)
        {
            var entry = context.Entry;
            if (entry.Has(SaveVmHandler.SwitchoverAckNeeded) && caller.IsActive(context)
                && caller.Call(entry, SaveVmHandler.SwitchoverAckNeeded, () => entry.Handlers.SwitchoverAckNeeded(context)))
            {
                _approval.RequireApproval(context);
            }
        }

        _approval.Counted();
    }
}
