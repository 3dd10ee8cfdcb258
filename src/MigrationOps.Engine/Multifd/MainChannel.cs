using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Multifd;

/// <summary>The main channel of a receipt: walks the stream and answers on the return path as a target would.</summary>
internal sealed class MainChannel : IMainStreamObserver
{
    private const int ReadAhead = 256 * 1024;

    private readonly ChannelReader _reader;
    private readonly IDeviceStateReceiver _devices;
    private readonly ReceiveState _state;
    private readonly MainStreamParser _parser;
    private readonly ReceiveOptions _options;
    private bool _returnPath;
    private int _acknowledged;
    private long _flushes;

    internal MainChannel(
        ChannelReader reader, IDeviceStateReceiver devices, ReceiveState state, Stream? record, ReceiveOptions options)
    {
        _reader = reader;
        _devices = devices;
        _state = state;
        _parser = new MainStreamParser(this, options.PageSize);
        _options = options;
        reader.RecordTo(record);
    }

    internal void Run(Action ended)
    {
        Walk();
        if (_parser.GaveUp is { } why)
        {
            _state.Warn($"The main stream was not walked to its end: {why}.");
        }

        _devices.EndPreCopy(_parser.GaveUp is null);
        _state.EndMain(_parser, _flushes);
        _state.WaitForChannels(_devices);
        ended();
        if (_returnPath)
        {
            _state.WaitUntilComplete(_devices);
            _devices.Complete();
            new SourceApproval(_reader).Tell(new ReturnPathMessage(ReturnPathMessageType.Shut, 0));
        }
        else
        {
            _reader.Drain();
        }

        if (_reader.Drained > 0 && _parser.HasEnded)
        {
            _state.Warn($"{_reader.Drained:N0} bytes follow the end of the main stream.");
        }
    }

    public ISectionBody? OpenSection(SectionInfo section) => _devices.OpenSection(section);

    public void ReturnPathOpened() => _returnPath = _reader.Stream.CanWrite;

    public void Ping(uint value)
    {
        if (_returnPath)
        {
            Answer(new ReturnPathMessage(ReturnPathMessageType.Pong, value));
        }
    }

    public void Flushed() => _flushes++;

    public void SwitchedOver() => _devices.EndPreCopy(_parser.GaveUp is null);

    private void Walk()
    {
        while (!_parser.HasEnded)
        {
            _reader.Advance(_parser.Parse(_reader.Buffered));
            Acknowledge();
            if (!_parser.HasEnded && !_reader.Fill(_parser.Wanted, ReadAhead))
            {
                _parser.Finish(_reader.Buffered);
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

        int due = MachineVersion.AcksPerDevice(_options.SwitchoverAckCount, _parser.Machine) ? _devices.InitialDataMarks
            : _parser.SetupHasEnded && _devices.HasInitialData ? 1 : 0;
        for (; _acknowledged < due; _acknowledged++)
        {
            Answer(new ReturnPathMessage(ReturnPathMessageType.SwitchoverAck));
        }
    }

    private void Answer(ReturnPathMessage message) => _reader.Stream.Write(message.ToArray());
}
