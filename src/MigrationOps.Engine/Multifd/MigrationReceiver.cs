using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>
/// Receives one migration: the main channel and the multifd channels, in any order of arrival, a thread each. RAM is
/// counted and passed over; device state goes to its receiver; the return path is answered as a target would.
/// </summary>
/// <remarks>
/// <code>
/// connection -> first word -> main channel   -> sections ... -> end mark -> (SHUT on the return path) -> closed
///                          -> multifd channel -> init -> packets ... -> closed by the source
/// </code>
/// The number of channels is not in the stream. A source has opened all of them before its main stream can end, and QEMU as
/// a target reads nothing before all are there. Something between the two may delay a connection; therefore channels are
/// accepted after the main stream's end too, as long as something is known to be missing.
/// </remarks>
internal sealed class MigrationReceiver : IDisposable
{
    private readonly ReceiveOptions _options;
    private readonly IDeviceStateReceiver _devices;
    private readonly IMigrationRecorder? _recorder;
    private readonly ReceiveState _state;
    private readonly TransferScope _scope;
    // Connections that have not said yet what they are: a source has all of its own at once, and each is a thread.
    private const int MostUnknown = 2 * ReceiveState.MostChannels;

    private static readonly TimeSpan LongestSilence = TimeSpan.FromSeconds(10);

    private readonly CancellationTokenSource _accepting = new();
    private readonly CancellationTokenSource _finished = new();
    private readonly CancellationTokenSource _introduced = new();
    private readonly List<SideThread> _threads = [];
    private int _serving;
    private WireException? _refused;

    private MigrationReceiver(
        ReceiveOptions options, IDeviceStateReceiver devices, IMigrationRecorder? recorder, TransferScope scope)
    {
        _options = options;
        _devices = devices;
        _recorder = recorder;
        _scope = scope;
        _state = new ReceiveState(options.Channels, scope.CancellationToken) { AllIntroduced = _introduced.Cancel };
    }

    /// <summary>Receives one migration.</summary>
    /// <param name="listener">Where the source connects.</param>
    /// <param name="options">Bounds.</param>
    /// <param name="devices">Takes the device state; <see cref="IDeviceStateReceiver.Complete"/> has been called on success.</param>
    /// <param name="recorder">Keeps every byte, or null.</param>
    /// <param name="scope">Deadline of the whole transfer, and cancellation.</param>
    /// <returns>What the migration carried.</returns>
    public static MigrationSummary Receive(
        Listener listener, ReceiveOptions options, IDeviceStateReceiver devices, IMigrationRecorder? recorder, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(listener);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(scope);
        using var receiver = new MigrationReceiver(options, devices, recorder, scope);
        return receiver.Run(() => receiver.AcceptAll(listener));
    }

    /// <summary>Receives one migration from connections that are there already, such as the files of an archive.</summary>
    public static MigrationSummary Receive(
        IEnumerable<Stream> connections, ReceiveOptions options, IDeviceStateReceiver devices, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(connections);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(scope);
        using var receiver = new MigrationReceiver(options, devices, null, scope);
        return receiver.Run(() =>
        {
            foreach (var connection in connections)
            {
                receiver.Start(() => connection);
            }

            receiver._state.AllConnected();
        });
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _threads.ForEach(t => t.Dispose());
        _accepting.Dispose();
        _finished.Dispose();
        _introduced.Dispose();
    }

    // Half of the deadline, so that one who says nothing is gone before the receipt is given up for lack of progress.
    private TimeSpan FirstBytePatience => _scope.Limit == Timeout.InfiniteTimeSpan || _scope.Limit / 2 > LongestSilence ? LongestSilence : _scope.Limit / 2;

    private MigrationSummary Run(Action open)
    {
        try
        {
            open();
        }
        catch (Exception e)
        {
            _scope.Fail(e);
        }

        _threads.ForEach(t => t.Join());
        try
        {
            _scope.ThrowIfFailed(DescribeSilence);
        }
        catch (WireException e) when (e.Reason == WireError.Disconnected)
        {
            throw new WireException(e.Reason, e.Message, e,
                "Look at the source. If it says completed, its guest is stopped: resume it there with cont. Then migrate again, with return-path on: then a source gives its guest up only when all has arrived.")
            { Peer = e.Peer, Target = e.Target };
        }

        _state.CheckChannels();
        _devices.EndPreCopy(allAnnounced: true);
        _devices.Complete();
        return _state.Summarize(_options.PageSize);
    }

    private void AcceptAll(Listener listener)
    {
        using var enough = CancellationTokenSource.CreateLinkedTokenSource(_accepting.Token, _introduced.Token);
        using var accepting = _scope.Until(enough.Token);
        try
        {
            while (true)
            {
                Accept(listener, accepting);
            }
        }
        catch (OperationCanceledException) when (enough.IsCancellationRequested && !_scope.CancellationToken.IsCancellationRequested)
        {
            // Nothing is missing any more. What the source opened besides waits in the queue of the socket.
            while (!_introduced.IsCancellationRequested && listener.HasPending)
            {
                Accept(listener, _scope);
            }
        }

        _state.AllConnected();
        if (_introduced.IsCancellationRequested)
        {
            RefuseMore(listener);
        }
    }

    // All that were announced are there. Whoever comes besides would wait in the queue of the socket until the deadline, and the
    // error would then name the packets that it carries.
    private void RefuseMore(Listener listener)
    {
        using var receiving = _scope.Until(_finished.Token);
        try
        {
            while (true)
            {
                using var another = listener.AcceptUnprotected("a channel too many", _scope, receiving);
                if (another.HasBytesUntil(new Deadline(FirstBytePatience)) && Protect(listener, another) is not null)
                {
                    throw new MultifdException(MultifdError.ChannelIdOutOfRange,
                        $"A connection came besides the main channel and {_options.Channels} channels: the source has more channels.");
                }
            }
        }
        catch (OperationCanceledException) when (_finished.IsCancellationRequested && !_scope.CancellationToken.IsCancellationRequested)
        {
            // Everything has arrived, and no further connection.
        }
    }

    private void Accept(Listener listener, TransferScope accepting)
    {
        var stream = listener.AcceptUnprotected("a migration channel", _scope, accepting);
        if (_state.Unknown >= MostUnknown)
        {
            stream.Dispose();
            return;
        }

        Start(() =>
        {
            // Closed in every case that does not hand it on: its source waits for the end of a connection that is not read.
            Stream? connection = null;
            try
            {
                return connection = stream.HasBytesUntil(new Deadline(FirstBytePatience)) ? Protect(listener, stream) : null;
            }
            finally
            {
                if (connection is null)
                {
                    stream.Dispose();
                }
            }
        });
    }

    // A source opens a connection and speaks at once. Who does not, or cannot do the handshake, is none: it must not end the receipt.
    private Stream? Protect(Listener listener, FdStream stream)
    {
        try
        {
            return listener.Protect(stream);
        }
        catch (WireException e) when (e.Reason == WireError.TlsFailed)
        {
            _refused = e;
            _state.Warn($"A connection was turned away. {e.Message}");
            listener.TurnedAway?.Invoke(e);
            return null;
        }
    }

    private void Start(Func<Stream?> open)
    {
        _state.CountConnection();
        Interlocked.Increment(ref _serving);
        _threads.Add(SideThread.Start("migration channel", _scope, () => Serve(open)));
    }

    private void Serve(Func<Stream?> open)
    {
        ChannelReader? reader = null;
        try
        {
            if (open() is { } stream)
            {
                reader = new ChannelReader(stream, "a new connection", _scope.Count);
                ServeChannel(reader);
            }
            else
            {
                _state.ForgetConnection();
            }
        }
        catch (Exception e)
        {
            // Before the connection closes: what the peer does about that must not be taken for the first failure.
            _scope.Fail(e);
        }
        finally
        {
            reader?.Dispose();
            if (Interlocked.Decrement(ref _serving) == 0 && _introduced.IsCancellationRequested)
            {
                _finished.Cancel();
            }
        }
    }

    private void ServeChannel(ChannelReader reader)
    {
        reader.Require(4, "the first word");
        var bytes = reader.Bytes();
        ChannelInit.TryReadKind(ref bytes, out bool isMain);
        if (isMain)
        {
            reader.Name = "main channel";
            _state.AddMain();
            new MainChannel(reader, _devices, _state, _recorder?.OpenMain(), _options).Run(() => _accepting.Cancel());
        }
        else
        {
            new RamAndDeviceChannel(reader, _devices, _state, _recorder, _options).Run();
        }
    }

    private Exception DescribeSilence()
    {
        try
        {
            if (_state.MainHasEnded)
            {
                _state.CheckChannels();
                _devices.Complete();
            }
        }
        catch (MigrationOpsException e)
        {
            return e;
        }

        if (_state.NoneIntroduced && _refused is { } refused)
        {
            return refused;
        }

        return new MultifdException(MultifdError.NoProgress,
            $"No byte came within {_scope.Limit.TotalSeconds:0.###} s. {_state.Describe()}",
            action: _threads.Count == 0 ? "Start the migration at the source, and check that it can reach this address." : null);
    }
}
