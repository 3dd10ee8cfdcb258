using System.Buffers.Binary;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;
using SectionKind = MigrationOps.Engine.Streams.SectionKind;

namespace MigrationOps.Engine.SaveVm;

/// <summary>One run of the target driver: its phases, in order.</summary>
internal sealed class TargetSession : IDisposable
{
    private readonly EntryContext[] _contexts;
    private readonly PostcopyTarget _postcopy;
    private SaveVmTargetOptions _options;
    private IoScope _scope = null!;
    private readonly ILogger _logger;
    private readonly Dictionary<uint, LoadedSection> _byId = [];
    private readonly Dictionary<SaveVmAlias, EntryContext> _byName = [];
    private readonly SwitchoverApproval _approval = new();
    private readonly List<string> _warnings = [];
    private readonly DateTimeOffset _startedAt = DateTimeOffset.UtcNow;
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly DowntimeParts _downtime = new();
    private LoadThreads _loading = null!;
    private IncomingChannels? _channels;
    private ReturnPathWriter? _returnPath;
    private IncomingStream _input = null!;
    private HandlerCaller _caller = null!;
    private Stream? _stream;
    private SectionSpool? _spool;
    private string _machineType = "";
    private TimeSpan _duration;
    private long _bytesBefore;
    private long _sections;
    private int _recoveries;
    private bool _told;

    internal TargetSession(IReadOnlyList<SaveVmEntry> entries, SaveVmTargetOptions options, ILogger logger)
    {
        _options = options;
        _logger = logger;
        _postcopy = new PostcopyTarget(this, options, logger);
        _contexts = [.. entries.Select(e => new EntryContext(e, isSource: false, Approve, CancellationToken.None) { Channels = options.MultifdChannels })];
        foreach (var context in _contexts)
        {
            foreach (var name in context.Entry.Aliases.Prepend(new SaveVmAlias(context.Entry.IdStr, context.Entry.InstanceId)))
            {
                _byName.Add(name, context);
            }
        }
    }

    internal IReadOnlyList<EntryContext> Contexts => _contexts;

    internal PostcopyTarget Postcopy => _postcopy;

    /// <summary>Whose the VM is, should the migration fail now.</summary>
    internal MigrationOwner Owner => _told ? MigrationOwner.Target : _postcopy.Owner;

    internal IncomingStream Input => _input;

    internal HandlerCaller Caller => _caller;

    internal ReturnPathWriter? ReturnPath => _returnPath;

    internal void Load(HandlerWatch watch, Func<IoScope, Stream> open)
    {
        Connect(watch, open);
        _spool = _options.SpoolPath is { } path ? new SectionSpool(path, _scope) : null;
        _input.Tap = _spool?.Output;
        _input.ReadHeader();
        if (_input.Peek() == StreamFormat.Configuration)
        {
            Check((StreamElement.Configuration)_input.ReadElement());
        }

        _input.Tap = null;
        Setup();
        _channels?.Start();
        LoadElements();
    }

    /// <summary>The rest of a migration whose connection was lost while the device ran, over a new one: it has no header.</summary>
    internal void Recover(HandlerWatch watch, Func<IoScope, Stream> open)
    {
        long before = _input.Offset;
        _returnPath = null;
        Connect(watch, open);
        _bytesBefore += before;
        _returnPath = _options.ReturnPath ? new ReturnPathWriter(_stream!) : null;
        LoadElements();
    }

    /// <summary>The bounds, callbacks and threads of the run that begins now.</summary>
    internal void Begin(SaveVmTargetOptions options, ProgressWatch threads, IoScope scope)
    {
        (_options, _scope) = (options, scope);
        _loading = new LoadThreads(threads, scope, TellFailure);
        _channels = options.MultifdChannels == 0 ? null
            : new IncomingChannels(options.MultifdChannels, name => _byName.GetValueOrDefault(name), threads, scope, TellFailure);
        if (_channels is not null)
        {
            _loading.AwaitEndOf(_channels);
        }

        foreach (var context in _contexts)
        {
            context.Renew(threads.Token);
            context.LoadThreads = _loading;
        }
    }

    /// <summary>Runs the device, as the source told or after the end mark; everything that it needs has been loaded.</summary>
    internal void StartDevice() => _caller.Device("started", _options.StartDevice);

    /// <summary>Waits for what loads beside the main stream.</summary>
    internal void JoinThreads() => _loading.Join(_contexts, _channels);

    /// <summary>Answers the source, which must have opened the return path.</summary>
    internal void Answer(long offset, Action<ReturnPathWriter> answer)
    {
        var path = _returnPath ?? throw ElementReader.Failure(SaveVmError.InvalidCommand, offset, "The source expects an answer before the return path is open");
        Answer(offset, () => answer(path));
    }

    /// <summary>Ends the threads beside the driver's own, whose waits have been cancelled.</summary>
    /// <returns>False if one was left behind.</returns>
    internal bool EndThreads() => _loading.End() & _channels?.End() is not false;

    /// <summary>Leaves nothing of the spool file unless it is whole.</summary>
    internal void EndSpool() => _spool?.Dispose();

    /// <summary>Gives back what those threads waited on; all of them have ended.</summary>
    public void Dispose()
    {
        _loading.Dispose();
        _channels?.Dispose();
    }

    /// <summary>Tells the source that this side failed; the source may be gone already. Any thread may call it.</summary>
    internal void TellFailure()
    {
        if (_postcopy.Runs)
        {
            // The source learns of the lost connection, and pauses like this side.
            return;
        }

        try
        {
            _returnPath?.Shut(1);
        }
        catch (Exception e) when (e is WireException or IOException or ObjectDisposedException or OperationCanceledException)
        {
            SaveVmLog.Warning(_logger, $"The source could not be told that the target failed: {e.Message}");
        }
    }

    internal MigrationStreamTransfer Result(List<string> warnings) => new()
    {
        Direction = MigrationStreamDirection.Receive,
        Uri = _options.Uri,
        MachineType = _machineType,
        Bytes = _bytesBefore + _input.Offset,
        MultifdChannels = _channels?.Count ?? 0,
        ChannelPackets = _channels?.Packets ?? 0,
        ChannelBytes = _channels?.Bytes ?? 0,
        Sections = _sections,
        Devices = [.. _byId.Values.Select(s => s.Context.Entry.ToString()).Distinct()],
        Spooled = _spool?.Devices ?? [],
        Rounds = 0,
        SwitchoverAcknowledged = _approval.Given,
        Confirmed = true,
        StartedAt = _startedAt,
        Duration = _duration,
        Downtime = _downtime.ToRecord(),
        Postcopy = _postcopy.Runs,
        Recoveries = _recoveries,
        Warnings = [.. _warnings, .. warnings],
    };

    private void Connect(HandlerWatch watch, Func<IoScope, Stream> open)
    {
        byte[] first = [];
        if (_channels is null)
        {
            _stream = open(_scope);
        }
        else
        {
            (_stream, first) = _channels.Accept(open);
        }

        _input = new IncomingStream(_stream, watch, first);
        _caller = new HandlerCaller(watch, () => _input.Offset, () => _input.Failure, _scope);
    }

    private void LoadElements()
    {
        while (LoadElement())
        {
            _options.OnProgress?.Invoke(_bytesBefore + _input.Offset);
        }

        if (!_postcopy.Runs)
        {
            JoinThreads();
        }

        Finish();
        _duration = Stopwatch.GetElapsedTime(_start);
    }

    private void Check(StreamElement.Configuration configuration)
    {
        _machineType = configuration.MachineType;
        string? wrong = _options.MachineType is { } machine && machine != configuration.MachineType
                ? $"The stream is of machine type '{configuration.MachineType}', and '{machine}' is expected"
            : _options.PageBits is { } bits && configuration.PageBits is { } given && bits != given
                ? $"The stream has pages of 2^{given} bytes, and 2^{bits} are expected"
            : configuration.Capabilities.FirstOrDefault(c => !_options.Capabilities.Contains(c) && (_spool is null || !SectionSpool.Reads(c))) is { } capability
                ? $"The stream needs the capability '{capability}'"
            : null;
        if (wrong is not null)
        {
            throw ElementReader.Failure(SaveVmError.ConfigurationMismatch, _input.Offset, wrong, "configuration");
        }

        _spool?.Configure(configuration);
    }

    private void Setup()
    {
        SaveVmLog.Phase(_logger, "load setup");
        foreach (var context in _contexts)
        {
            var entry = context.Entry;
            if (entry.Has(SaveVmHandler.LoadSetup) && IsActive(context))
            {
                _caller.Call(entry, SaveVmHandler.LoadSetup, () => entry.Handlers.LoadSetup(context));
            }
        }

        if (!_options.SwitchoverAck)
        {
            return;
        }

        if (MachineVersion.AcksPerDevice(_options.SwitchoverAckCount, _machineType))
        {
            _approval.CountPerDevice();
            return;
        }

        foreach (var context in _contexts)
        {
            var entry = context.Entry;
            if (entry.Has(SaveVmHandler.SwitchoverAckNeeded) && IsActive(context)
                && _caller.Call(entry, SaveVmHandler.SwitchoverAckNeeded, () => entry.Handlers.SwitchoverAckNeeded(context)))
            {
                _approval.Need(context);
            }
        }

        _approval.Counted();
    }

    private bool IsActive(EntryContext context)
        => !context.Entry.Has(SaveVmHandler.IsActive)
            || _caller.Call(context.Entry, SaveVmHandler.IsActive, () => context.Entry.Handlers.IsActive(context));

    private bool LoadElement()
    {
        _input.LeavePackage();
        long offset = _input.Offset;
        var element = _input.ReadElement();
        _postcopy.CheckElement(element, offset);
        CheckReturnPath(element, offset);
        switch (element)
        {
            case StreamElement.SectionStart start:
                LoadSection(start.Type, Begin(start, offset), offset);
                return true;
            case StreamElement.SectionPart part when _byId.TryGetValue(part.Id, out var section):
                LoadSection(part.Type, section, offset);
                return true;
            case StreamElement.SectionPart part:
                throw ElementReader.Failure(SaveVmError.InvalidSectionId, offset,
                    $"A {part.Type} section names id {part.Id}, which no section has started", $"section {part.Id}");
            case StreamElement.Command command:
                Obey(command, offset);
                return true;
            case StreamElement.Eof:
                _input.EndPackage(offset, "the end mark");
                return false;
            case var other:
                throw ElementReader.Failure(SaveVmError.UnknownElement, offset, $"A {other.GetType().Name} stands where a section must begin");
        }
    }

    // Sources open it before their first section. Later it would be too late to stop a source that ends without it.
    private void CheckReturnPath(StreamElement element, long offset)
    {
        if (_options.RequireReturnPath && _returnPath is null && element is not StreamElement.Command)
        {
            throw ElementReader.Failure(SaveVmError.ReturnPathMissing, offset,
                $"{(element is StreamElement.Eof ? "The end mark" : "The first section")} comes, and the source has not opened the return path");
        }
    }

    private LoadedSection Begin(StreamElement.SectionStart start, long offset)
    {
        string name = $"section {start.Id} ({start.IdStr}" + (start.InstanceId == 0 ? ")" : $"/{start.InstanceId})");
        if (!_byName.TryGetValue(new SaveVmAlias(start.IdStr, start.InstanceId), out var context) && (context = Adopt(start)) is null)
        {
            throw ElementReader.Failure(SaveVmError.UnknownSection, offset,
                Array.Exists(_contexts, c => c.Entry.IdStr == start.IdStr)
                    ? $"No instance {start.InstanceId} of '{start.IdStr}' is registered here, for {name}"
                    : $"Nothing is registered here as '{start.IdStr}', for {name}", name);
        }

        if (start.VersionId > (uint)context.Entry.VersionId)
        {
            throw ElementReader.Failure(SaveVmError.VersionTooNew, offset,
                $"{name} has version {start.VersionId}, and version {context.Entry.VersionId} is the newest that is registered", name);
        }

        if (_byId.TryGetValue(start.Id, out var other) && other.Context != context)
        {
            throw ElementReader.Failure(SaveVmError.InvalidSectionId, offset,
                $"Section id {start.Id} belongs to {other.Context.Entry}, and is started again for {start.IdStr}", name);
        }

        _spool?.Know(start);
        return _byId[start.Id] = new LoadedSection(context, start.Id, (int)start.VersionId, name);
    }

    // What nobody registered is kept, if there is a place for it.
    private EntryContext? Adopt(StreamElement.SectionStart start)
    {
        if (_spool is null)
        {
            return null;
        }

        var context = new EntryContext(_spool.Adopt(start, _input.Offset), isSource: false, Approve, CancellationToken.None);
        _byName.Add(new SaveVmAlias(start.IdStr, start.InstanceId), context);
        return context;
    }

    private void LoadSection(SectionKind type, LoadedSection section, long offset)
    {
        var entry = section.Context.Entry;
        if (!entry.Has(SaveVmHandler.LoadState))
        {
            throw ElementReader.Failure(SaveVmError.InvalidHandlers, offset,
                $"The handlers of '{entry}' do not offer LoadState, and {section.Name} is to be loaded", section.Name);
        }

        SaveVmLog.Section(_logger, type, section.Id, entry.IdStr, offset);
        using var part = _downtime.Measure(type, _input);
        using var kept = _spool?.Keep(type, entry, _input);
        _input.Section = section.Name;
        var stream = new SectionLoadStream(_input, section.Name);
        try
        {
            _caller.Call(entry, SaveVmHandler.LoadState, () => entry.Handlers.LoadState(stream, section.Context, section.VersionId));
        }
        finally
        {
            stream.Revoke();
        }

        _input.ReadFooter(section.Name, section.Id);
        _input.Section = null;
        _sections++;
    }

    private void Obey(StreamElement.Command command, long offset)
    {
        switch (command.Id)
        {
            case StreamCommandId.OpenReturnPath when !_options.ReturnPath:
                throw ElementReader.Failure(SaveVmError.NotSupported, offset, "The source asks for a return path, which this connection does not have");
            case StreamCommandId.OpenReturnPath:
                _returnPath ??= new ReturnPathWriter(_stream!);
                Answer(offset, () => _approval.Open(_returnPath));
                break;
            case StreamCommandId.Ping:
                Answer(offset, path => path.Pong(BinaryPrimitives.ReadUInt32BigEndian(command.Data)));
                break;
            case StreamCommandId.PostcopyResume:
                _postcopy.Obey(command, offset);
                _recoveries++;
                break;
            case StreamCommandId.SwitchoverStart:
                SwitchoverStart();
                break;
            default:
                _postcopy.Obey(command, offset);
                break;
        }
    }

    private void SwitchoverStart()
    {
        SaveVmLog.Phase(_logger, "switchover");
        using var part = _downtime.MeasureSwitchover(_input);
        foreach (var context in _contexts)
        {
            var entry = context.Entry;
            if (entry.Has(SaveVmHandler.SwitchoverStart) && IsActive(context))
            {
                _caller.Call(entry, SaveVmHandler.SwitchoverStart, () => entry.Handlers.SwitchoverStart(context));
            }
        }
    }

    private void Finish()
    {
        var clock = new PartClock();
        if (_postcopy.Runs)
        {
            FinishPostcopy();
            return;
        }

        // The source forgets its device once it is told, so that everything must be safe before.
        _spool?.Complete(_input);
        Answer(_input.Offset, () => _returnPath?.Shut(0));
        _told = true;
        _downtime.Complete = clock.Next();
        SaveVmLog.Phase(_logger, "loaded");
        SkipRest();
        StartDevice();
    }

    // The device runs here and has everything; a source that cannot be told has nothing left that would be of use.
    private void FinishPostcopy()
    {
        SaveVmLog.Phase(_logger, "postcopy completed");
        try
        {
            _returnPath?.Shut(0);
        }
        catch (Exception e) when (e is WireException or IOException)
        {
            _warnings.Add($"The source could not be told that everything has arrived: {e.Message} Its migration stays paused; give it up there.");
        }
    }

    private void SkipRest()
    {
        try
        {
            SkipDescription();
            if (_channels?.Finish() is { } warning)
            {
                _warnings.Add(warning);
            }
        }
        catch (Exception e) when (e is OperationCanceledException
            or SaveVmException { Reason: SaveVmError.Truncated or SaveVmError.ConnectionLost or SaveVmError.PeerSilent })
        {
            // Everything is loaded, and the source has been told so and gives its device up. QEMU does not care either.
            _warnings.Add($"What may follow the end mark could not be read: {e.Message}");
        }
    }

    // A source that is closed upon with its last bytes unread would see its connection reset.
    private void SkipDescription()
    {
        if (_input.Peek() != StreamFormat.Description)
        {
            return;
        }

        int length = ((StreamElement.Description)_input.ReadElement()).Length;
        int there = _input.Skip(length);
        if (there < length)
        {
            _warnings.Add($"The stream's description is cut: {there:N0} of its {length:N0} bytes are there.");
        }
    }

    private void Approve(EntryContext context) => Answer(_input.Offset, () => _approval.Give(context));

    private void Answer(long offset, Action answer)
    {
        try
        {
            answer();
        }
        catch (Exception e) when (e is WireException or IOException)
        {
            throw _input.Fail(StreamFailure.Of(e, offset, "return path"));
        }
    }

    private sealed record LoadedSection(EntryContext Context, uint Id, int VersionId, string Name);
}
