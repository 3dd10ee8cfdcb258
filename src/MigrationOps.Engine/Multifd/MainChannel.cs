using System.Diagnostics;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Multifd;

/// <summary>The main channel of a receipt: walks the stream and answers on the return path as a target would.</summary>
internal sealed class MainChannel : DeviceSectionVisitor
{
    private const int ReadAhead = 256 * 1024;

    // A source with something to send stays in a section for up to 50 ms, or until a tenth of a second's bandwidth is used up; one that
    // only waits goes round thousands of times a second.
    private const int IdleSections = 1000;
    private const long IdleBytes = 256 * IdleSections;
    private static readonly TimeSpan s_idleTime = TimeSpan.FromSeconds(30);

    private readonly ChannelReader _reader;
    private readonly IDeviceStateReceiver _devices;
    private readonly ReceiveState _state;
    private readonly StreamWalker _walker;
    private readonly ReceiveOptions _options;
    private readonly Dictionary<uint, IDeviceSections> _sections = [];
    private string? _machine;
    private bool _hasSections;
    private bool _setupHasEnded;
    private bool _returnPath;
    private int _acknowledged;
    private long _flushes;
    private int _parts;
    private long _partsSince = Stopwatch.GetTimestamp();
    private long _partsFrom;
    private bool _hasNoticed;

    internal MainChannel(
        ChannelReader reader, IDeviceStateReceiver devices, ReceiveState state, Stream? record, ReceiveOptions options)
    {
        _reader = reader;
        _devices = devices;
        _state = state;
        _walker = new StreamWalker(this, pageSize: options.PageSize);
        _options = options;
        reader.RecordTo(record);
    }

    internal void Run(Action ended)
    {
        Walk();
        _devices.EndPreCopy(allAnnounced: true);
        _state.EndMain(_walker.Offset, _machine, (int)_walker.PageSize, _flushes);
        _state.WaitForChannels(_devices);
        ended();
        if (_returnPath)
        {
            _state.WaitUntilComplete(_devices);
            _devices.Complete();
            new SourceApproval(_reader).SendAnswer(new ReturnPathMessage(ReturnPathMessageType.Shut, 0));
        }
        else
        {
            _reader.Drain();
        }

        if (_reader.Drained > 0 && _walker.HasEnded)
        {
            _state.Warn($"{_reader.Drained:N0} bytes follow the end of the main stream.");
        }
    }

    public override void OnConfiguration(StreamConfiguration configuration) => _machine = configuration.MachineType;

    public override void OnSectionStart(StreamSection section)
    {
        _hasSections = true;
        _setupHasEnded |= section.Kind is SectionKind.Part or SectionKind.End;
        if (section.Kind == SectionKind.Part && _returnPath && !_options.SwitchoverAck && !_hasNoticed && ++_parts == IdleSections)
        {
            NoticeIdleSource();
        }

        if (section.Kind == SectionKind.Start && !_sections.ContainsKey(section.Id) && _devices.OpenSections(section) is { } device)
        {
            _sections.Add(section.Id, device);
        }
    }

    public override void OnEof(long offset)
    {
        if (!_hasSections)
        {
            throw StreamException.At(StreamError.UnknownElement, offset, "Expected a section, found the end mark: the stream carries no state", _reader.Name);
        }
    }

    protected override IDeviceSections? DeviceOf(StreamSection section) => _sections.GetValueOrDefault(section.Id);

    public override void OnMultifdFlush(long offset) => _flushes++;

    public override void OnCommand(StreamCommand command)
    {
        switch (command.Id)
        {
            case StreamCommandId.OpenReturnPath:
                _returnPath = _reader.Stream.CanWrite;
                break;
            case StreamCommandId.Ping when _returnPath:
                Answer(new ReturnPathMessage(ReturnPathMessageType.Pong, command.Data));
                break;
            case StreamCommandId.SwitchoverStart:
                _devices.EndPreCopy(allAnnounced: true);
                break;
        }
    }

    private void Walk()
    {
        while (!_walker.HasEnded)
        {
            _reader.Advance(_walker.Feed(_reader.Buffered));
            Acknowledge();
            if (!_walker.HasEnded && !_reader.Fill(_reader.Buffered.Length + 1, ReadAhead))
            {
                _reader.Advance(_walker.Feed(_reader.Buffered, last: true));
                return;
            }
        }
    }

    // A source without switchover-ack fails at an acknowledgement since QEMU 11.1, and its guest runs on. From that machine version
    // on it waits for one per device that has asked, before for one of all.
    private void Acknowledge()
    {
        if (!_returnPath || !_options.SwitchoverAck)
        {
            return;
        }

        int due = MachineVersion.AcksPerDevice(_options.SwitchoverAckCount, _machine) ? _devices.InitialDataMarks
            : _setupHasEnded && _devices.HasInitialData ? 1 : 0;
        for (; _acknowledged < due; _acknowledged++)
        {
            Answer(new ReturnPathMessage(ReturnPathMessageType.SwitchoverAck));
        }
    }

    private void NoticeIdleSource()
    {
        if (_walker.Offset - _partsFrom < IdleBytes && Stopwatch.GetElapsedTime(_partsSince) < s_idleTime)
        {
            _hasNoticed = true;
            _options.SourceWaits?.Invoke();
        }

        (_parts, _partsFrom, _partsSince) = (0, _walker.Offset, Stopwatch.GetTimestamp());
    }

    private void Answer(ReturnPathMessage message) => _reader.Stream.Write(message.ToArray());
}
