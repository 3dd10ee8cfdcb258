using System.Buffers;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>
/// The sending side of a migration: opens the main channel and the multifd channels, gives each channel a thread, listens
/// on the return path, and calls it a success only when the target says so and has read every channel to its end.
/// </summary>
internal sealed class MigrationSender : IDisposable
{
    // How long a target has for closing its channels when it does not take what came over one of them. It does that at once; what
    // takes time is a thread's turn on a busy host.
    private static readonly TimeSpan RefusalPatience = TimeSpan.FromSeconds(1);

    private static readonly byte[] OpenReturnPath = CommandBytes(StreamCommandId.OpenReturnPath);

    private readonly TransferScope _scope;
    private readonly Endpoint _endpoint;
    private readonly TransportSecurity _security;
    private readonly List<(int Id, CountedStream Stream)> _channels = [];
    private readonly List<SideThread> _threads = [];
    private CountedStream? _main;
    private SideThread? _returnPath;
    private volatile bool _succeeded;
    private readonly ManualResetEventSlim _answered = new();
    private int? _connecting;

    /// <summary>Prepares a migration.</summary>
    /// <param name="endpoint">The target.</param>
    /// <param name="security">TLS, or plain text.</param>
    /// <param name="scope">Deadline of the whole transfer, and cancellation; it stays the caller's.</param>
    public MigrationSender(Endpoint endpoint, TransportSecurity security, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(scope);
        _endpoint = endpoint;
        _security = security;
        _scope = scope;
    }

    /// <summary>Sends a migration.</summary>
    /// <param name="main">Writes the main stream; the first argument of it asks the target for the return path.</param>
    /// <param name="channels">Writes each channel, on a thread of its own, init message included.</param>
    /// <exception cref="MultifdException"><see cref="MultifdError.TargetFailed"/>, <see cref="MultifdError.TargetDroppedChannel"/>.</exception>
    public void Send(Action<Stream, byte[]> main, IReadOnlyList<Action<Stream>> channels) => Send(main, channels, _ => { });

    /// <param name="main">As above.</param>
    /// <param name="channels">As above.</param>
    /// <param name="checkTarget">Told the process that listens at the target, if it can be seen from here, before anything is sent.</param>
    internal void Send(Action<Stream, byte[]> main, IReadOnlyList<Action<Stream>> channels, Action<PeerProcessInfo?> checkTarget)
    {
        ArgumentNullException.ThrowIfNull(main);
        ArgumentNullException.ThrowIfNull(channels);
        try
        {
            // A target with TLS cannot look ahead into a connection and takes the first one for the main channel.
            _main = new CountedStream(Transport.Connect(_endpoint, _security, _scope), _scope);
            checkTarget(_main.Peer);
            _returnPath = SideThread.Start("return path", _scope, ReadReturnPath);
            for (int i = 0; i < channels.Count; i++)
            {
                var stream = new CountedStream(ConnectChannel(i), _scope);
                _channels.Add((i, stream));
                int id = i;
                _threads.Add(SideThread.Start($"migration channel {id}", _scope, () => Guard($"channel {id}", () => channels[id](stream))));
            }

            Guard("the main channel", () => main(_main, OpenReturnPath));
        }
        catch (Exception e)
        {
            _scope.Fail(e);
        }

        _threads.ForEach(t => t.Join());
        _returnPath?.Join();
        _scope.ThrowIfFailed(() => _connecting is { } id ? NotTaken(id, null) : new MultifdException(MultifdError.NoProgress,
            $"{_endpoint}: the target has neither read nor answered for {_scope.Limit.TotalSeconds:0.###} s."));
        if (!_succeeded)
        {
            throw Failed("it closed the main channel without saying that it succeeded");
        }

        foreach (var (id, stream) in _channels)
        {
            Guard($"channel {id}", stream.EndWriting);
        }

        foreach (var (id, stream) in _channels)
        {
            if (stream.WasDropped(_scope, $"the end of channel {id}", out var cause))
            {
                throw Dropped($"channel {id}", cause);
            }
        }
    }

    /// <summary>
    /// Waits until the target has taken what was written to the channels, and looks whether it closes them. Called before the last
    /// byte of the main stream: a target that refuses a packet closes its channels, and one that has the whole main stream closes
    /// them as well and may say that it succeeded although it refused a packet - QEMU does.
    /// </summary>
    /// <exception cref="MultifdException"><see cref="MultifdError.TargetFailed"/>.</exception>
    internal void CheckChannels()
    {
        _threads.ForEach(t => t.Join());
        _scope.CancellationToken.ThrowIfCancellationRequested();
        var moment = new Deadline(RefusalPatience);
        foreach (var (id, stream) in _channels)
        {
            if (!stream.WaitUntilTaken() || stream.EndsUntil(_scope, moment))
            {
                throw Failed($"it closed channel {id} before the main stream had ended; see its log for what it did not take");
            }
        }

        // The ones before have been open until now only if nothing has happened since.
        if (_channels.FindIndex(c => c.Stream.EndsUntil(_scope, new Deadline(TimeSpan.Zero))) is >= 0 and var index)
        {
            throw Failed($"it closed channel {_channels[index].Id} before the main stream had ended; see its log for what it did not take");
        }
    }

    /// <summary>Waits until the target has answered on the return path: only one that has read the head of the stream does.</summary>
    internal void WaitForAnswer() => _answered.Wait(_scope.CancellationToken);

    /// <summary>True once the target has answered.</summary>
    internal bool HasAnswered => _answered.IsSet;

    /// <inheritdoc/>
    public void Dispose()
    {
        _answered.Dispose();
        _main?.Dispose();
        _channels.ForEach(c => c.Stream.Dispose());
        _threads.ForEach(t => t.Dispose());
        _returnPath?.Dispose();
    }

    private Stream ConnectChannel(int id)
    {
        try
        {
            _connecting = id;
            var stream = Transport.Connect(_endpoint, _security, _scope);
            _connecting = null;
            return stream;
        }
        catch (WireException e) when (e.Reason is WireError.ConnectFailed or WireError.NotFound)
        {
            throw NotTaken(id, e);
        }
    }

    // The main channel has connected, so the target is there: it has all the channels that it wants.
    private MultifdException NotTaken(int id, Exception? inner)
        => new(MultifdError.TargetDroppedChannel,
            $"{_endpoint}: the target does not take channel {id}; it took the main channel and {id} channels.", inner)
        { Peer = _endpoint.ToString(), Section = $"channel {id}" };

    // A connection that breaks while we write means that the target gave up, whatever the system calls it.
    private void Guard(string channel, Action action)
    {
        try
        {
            action();
        }
        catch (Exception e) when (e is WireException { Reason: WireError.Disconnected } or IOException)
        {
            if (!_succeeded)
            {
                throw Failed($"it closed {channel} before everything was sent", e);
            }

            throw Dropped(channel, e);
        }
    }

    private void ReadReturnPath()
    {
        // The main channel stays the sender's, so the reader is not disposed.
        var reader = new ChannelReader(_main!, "return path");
        try
        {
            while (true)
            {
                var bytes = reader.Bytes();
                if (!ReturnPathCodec.TryRead(ref bytes, out var message))
                {
                    _ = reader.Fill(reader.Buffered.Length + 1) ? true : throw Failed("it closed the main channel without saying that it succeeded");
                    continue;
                }

                reader.Advance(bytes.Position);
                _answered.Set();
                if (message.Type == ReturnPathMessageType.Shut)
                {
                    _succeeded = message.Value == 0 ? true : throw Failed("it says that it failed");
                    return;
                }
            }
        }
        catch (Exception e) when (e is WireException { Reason: WireError.Disconnected } or IOException)
        {
            throw Failed("it closed the main channel without saying that it succeeded", e);
        }
    }

    private MultifdException Failed(string why, Exception? inner = null)
        => new(MultifdError.TargetFailed, $"{_endpoint}: the target did not load the migration: {why}.", inner) { Peer = _endpoint.ToString() };

    private MultifdException Dropped(string channel, Exception? inner)
        => new(MultifdError.TargetDroppedChannel,
            $"{_endpoint}: the target says that it succeeded, but it dropped {channel} unread.", inner)
        { Peer = _endpoint.ToString(), Section = channel };

    private static byte[] CommandBytes(StreamCommandId command)
    {
        var output = new ArrayBufferWriter<byte>();
        ElementWriter.Command(output, command);
        return output.WrittenSpan.ToArray();
    }
}
