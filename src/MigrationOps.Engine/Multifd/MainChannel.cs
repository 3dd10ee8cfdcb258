namespace MigrationOps.Engine.Multifd;

/// <summary>The main channel of a receipt: walks the stream and answers on the return path as a target would.</summary>
internal sealed class MainChannel : IMainStreamObserver
{
    private const int ReadAhead = 256 * 1024;

    private readonly ChannelReader _reader;
    private readonly IDeviceStateReceiver _devices;
    private readonly ReceiveState _state;
    private readonly MainStreamParser _parser;
    private bool _returnPath;
    private bool _acknowledged;
    private long _flushes;

    internal MainChannel(
        ChannelReader reader, IDeviceStateReceiver devices, ReceiveState state, Stream? record, int pageSize)
    {
        _reader = reader;
        _devices = devices;
        _state = state;
        _parser = new MainStreamParser(this, pageSize);
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
            Answer(new ReturnPathMessage(ReturnPathType.Shut));
        }

        PassRest();
    }

    public ISectionBody? OpenSection(SectionInfo section) => _devices.OpenSection(section);

    public void ReturnPathOpened() => _returnPath = _reader.Stream.CanWrite;

    public void Ping(uint value)
    {
        if (_returnPath)
        {
            Answer(new ReturnPathMessage(ReturnPathType.Pong, value));
        }
    }

    public void Flushed() => _flushes++;

    public void SwitchedOver() => _devices.EndPreCopy(_parser.GaveUp is null);

    private void Walk()
    {
        while (!_parser.HasEnded)
        {
            _reader.Advance(_parser.Parse(_reader.Buffered));
            if (_returnPath && !_acknowledged && _parser.SetupHasEnded && _devices.HasInitialData)
            {
                // A source without switchover-ack takes the message and does nothing with it.
                _acknowledged = true;
                Answer(new ReturnPathMessage(ReturnPathType.SwitchoverAcknowledged));
            }

            if (!_parser.HasEnded && !_reader.Fill(_parser.Wanted, ReadAhead))
            {
                _parser.Finish(_reader.Buffered);
                return;
            }
        }
    }

    private void PassRest()
    {
        long rest = _reader.Buffered.Length;
        _reader.Advance(_reader.Buffered.Length);
        while (_reader.Fill(1))
        {
            rest += _reader.Buffered.Length;
            _reader.Advance(_reader.Buffered.Length);
        }

        if (rest > 0 && _parser.HasEnded)
        {
            _state.Warn($"{rest:N0} bytes follow the end of the main stream.");
        }
    }

    private void Answer(ReturnPathMessage message) => _reader.Stream.Write(message.ToArray());
}
