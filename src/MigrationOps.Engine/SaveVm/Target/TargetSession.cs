using System.Diagnostics;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// One run of the target driver, from its connection to its end, over one connection or several. Its parts are the sections, the return path,
/// postcopy with its package, and the end.
/// </summary>
internal sealed class TargetSession : IDisposable
{
    private readonly EntryContext[] _contexts;
    private readonly ILogger _logger;
    private readonly DateTimeOffset _startedAt = DateTimeOffset.UtcNow;
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly TargetCompletion _completion;
    private TransferScope _scope = null!;
    private LoadThreads _loading = null!;
    private string _machineType = "";
    private TimeSpan _duration;
    private long _bytesBefore;

    internal TargetSession(IReadOnlyList<SaveVmEntry> entries, SaveVmTargetOptions options, ILogger logger)
    {
        Options = options;
        _logger = logger;
        ReturnPath = new TargetReturnPath(this, logger);
        Postcopy = new PostcopyTarget(this, options, logger);
        Package = new PostcopyPackage(this, logger);
        _completion = new TargetCompletion(this, logger);
        _contexts = [.. entries.Select(Context)];
        Sections = new TargetSections(this, logger);
    }

    internal SaveVmTargetOptions Options { get; private set; }

    internal IReadOnlyList<EntryContext> Contexts => _contexts;

    internal TargetSections Sections { get; }

    internal TargetReturnPath ReturnPath { get; }

    internal PostcopyTarget Postcopy { get; }

    internal PostcopyPackage Package { get; }

    internal DowntimeParts Downtime { get; } = new();

    /// <summary>Keeps the sections of devices that are not registered; null if they are refused.</summary>
    internal SectionSpool? Spool { get; private set; }

    internal IncomingChannels? Channels { get; private set; }

    /// <summary>The main connection.</summary>
    internal Stream Connection { get; private set; } = null!;

    /// <summary>Loads the main stream.</summary>
    internal StreamLoader Main { get; private set; } = null!;

    internal IncomingStream Input => Main.Input;

    /// <summary>Whose the VM is, should the migration fail now.</summary>
    internal MigrationOwner Owner => _completion.Told ? MigrationOwner.Target : Postcopy.Owner;

    internal void Load(HandlerWatch watch, Func<TransferScope, Stream> open)
    {
        Connect(watch, open);
        Spool = Options.SpoolPath is { } path ? new SectionSpool(path, Sections.Find(new SaveVmAlias(StreamFormat.Ram, 0)) is null ? Channels : null, _scope) : null;
        Input.Tap = Spool?.Output;
        Input.ReadHeader();
        if (Input.Peek() == StreamFormat.Configuration)
        {
            Check((Qemu.StreamConfiguration)Input.ReadElement());
        }

        Input.Tap = null;
        Setup();
        Channels?.Start();
        LoadElements();
    }

    /// <summary>The rest of a migration whose connection was lost while the device ran, over a new one: it has no header.</summary>
    internal void Recover(HandlerWatch watch, Func<TransferScope, Stream> open)
    {
        _bytesBefore += Input.Offset;
        ReturnPath.Renew(null);
        Connect(watch, open);
        ReturnPath.Renew(Options.ReturnPath ? new ReturnPathWriter(Connection) : null);
        LoadElements();
    }

    /// <summary>The bounds, callbacks and threads of the run that begins now.</summary>
    internal void Begin(SaveVmTargetOptions options, TransferScope run, TransferScope scope)
    {
        (Options, _scope) = (options, scope);
        _loading = new LoadThreads(scope, ReturnPath.TellFailure);
        Package.Begin(scope);
        // A migration that is resumed has come to its switch, with which the channels have ended.
        Channels = options.MultifdChannels == 0 || Main is not null ? null
            : new IncomingChannels(options.MultifdChannels, Sections.Find, scope, ReturnPath.TellFailure);
        if (Channels is not null)
        {
            _loading.AwaitEndOf(Channels);
        }

        foreach (var context in _contexts)
        {
            context.Renew(run.CancellationToken);
            context.LoadThreads = _loading;
        }
    }

    /// <summary>A device's part in this migration that begins while it runs.</summary>
    internal EntryContext Adopt(SaveVmEntry entry) => Context(entry);

    /// <summary>The main stream has come a section further.</summary>
    internal void Progressed() => Options.OnProgress?.Invoke(_bytesBefore + Input.Offset);

    /// <summary>Runs the device, as the source told or after the end mark; everything that it needs has been loaded.</summary>
    internal void StartDevice(StreamLoader loader) => loader.Caller.Device("started", Options.StartDevice);

    /// <summary>Waits for what loads beside the main stream.</summary>
    internal void JoinThreads() => _loading.Join(_contexts, Channels);

    /// <summary>
    /// The driver's thread has failed. Ends the package's thread, unless it is just starting the device: then that decides whose the VM is. Tells
    /// the source if the device does not run here.
    /// </summary>
    /// <returns>The failure to report.</returns>
    internal Exception Fail(Exception failure, TransferScope run)
    {
        if (Package.IsLoading && Postcopy.ForbidStart())
        {
            run.Fail(failure);
        }

        Package.End();
        Postcopy.StartEnded();
        ReturnPath.TellFailure();
        return run.FirstFailure(failure)!;
    }

    /// <summary>Ends the threads beside the driver's own, whose waits have been cancelled.</summary>
    /// <returns>False if one was left behind.</returns>
    internal bool EndThreads() => _loading.End() & Package.End() & Channels?.End() is not false;

    /// <summary>Leaves nothing of the spool file unless it is whole.</summary>
    internal void EndSpool() => Spool?.Dispose();

    /// <summary>Gives back what the threads of this run waited on; all of them have ended.</summary>
    public void Dispose()
    {
        _loading.Dispose();
        Channels?.Dispose();
        Package.Dispose();
    }

    internal MigrationStreamTransfer Result(List<string> warnings) => new()
    {
        Direction = MigrationStreamDirection.Receive,
        Uri = Options.Uri,
        MachineType = _machineType,
        Bytes = _bytesBefore + Input.Offset,
        MultifdChannels = Channels?.Count ?? 0,
        ChannelPackets = Channels?.Packets ?? 0,
        ChannelBytes = Channels?.Bytes ?? 0,
        Sections = Sections.Count,
        Devices = Sections.Devices,
        Spooled = Spool?.Devices ?? [],
        Rounds = 0,
        SwitchoverAcknowledged = ReturnPath.Approval.Given,
        Confirmed = true,
        StartedAt = _startedAt,
        Duration = _duration,
        Downtime = Downtime.ToRecord(),
        Postcopy = Postcopy.Runs,
        Recoveries = Postcopy.Recoveries,
        Warnings = [.. _completion.Warnings, .. warnings],
    };

    private EntryContext Context(SaveVmEntry entry)
        => new(entry, isSource: false, ReturnPath.Approve, CancellationToken.None)
        {
            Channels = Options.MultifdChannels,
            AwaitsAck = Options.SwitchoverAck,
        };

    private void Connect(HandlerWatch watch, Func<TransferScope, Stream> open)
    {
        byte[] first = [];
        if (Channels is null)
        {
            Connection = open(_scope);
        }
        else
        {
            (Connection, first) = Channels.Accept(open);
        }

        var input = new IncomingStream(Connection, watch, first) { MayBeSilent = () => Package.IsLoading };
        Main = new StreamLoader(this, input, new HandlerCaller(watch, () => input.Offset, () => input.Failure, _scope), _logger);
    }

    private void LoadElements()
    {
        Main.Run();
        if (!Postcopy.Runs)
        {
            JoinThreads();
        }

        _completion.Finish();
        _duration = Stopwatch.GetElapsedTime(_start);
    }

    private void Check(Qemu.StreamConfiguration configuration)
    {
        _machineType = configuration.MachineType;
        string? wrong = Options.MachineType is { } machine && machine != configuration.MachineType
                ? $"The stream is of machine type '{configuration.MachineType}', and '{machine}' is expected"
            : Options.PageBits is { } bits && configuration.PageBits is { } given && bits != given
                ? $"The stream has pages of 2^{given} bytes, and 2^{bits} are expected"
            : configuration.Capabilities.FirstOrDefault(c => !Options.Capabilities.Contains(c) && (Spool is null || !SectionSpool.Reads(c))) is { } capability
                ? $"The stream needs the capability '{capability}'"
            : null;
        if (wrong is not null)
        {
            throw SaveVmException.At(SaveVmError.ConfigurationMismatch, Input.Offset, wrong, "configuration");
        }

        Spool?.Configure(configuration);
    }

    private void Setup()
    {
        SaveVmLog.Phase(_logger, "load setup");
        var caller = Main.Caller;
        foreach (var context in _contexts)
        {
            var entry = context.Entry;
            if (entry.Has(SaveVmHandler.LoadSetup) && Main.IsActive(context))
            {
                caller.Call(entry, SaveVmHandler.LoadSetup, () => entry.Handlers.LoadSetup(context));
            }
        }

        if (!Options.SwitchoverAck)
        {
            return;
        }

        var approval = ReturnPath.Approval;
        if (MachineVersion.AcksPerDevice(Options.SwitchoverAckCount, _machineType))
        {
            approval.CountPerDevice();
            return;
        }

        foreach (var context in _contexts)
        {
            var entry = context.Entry;
            if (entry.Has(SaveVmHandler.SwitchoverAckNeeded) && Main.IsActive(context)
                && caller.Call(entry, SaveVmHandler.SwitchoverAckNeeded, () => entry.Handlers.SwitchoverAckNeeded(context)))
            {
                approval.Need(context);
            }
        }

        approval.Counted();
    }
}
