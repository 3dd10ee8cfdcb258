using System.Buffers;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The multifd channels of a target: accepted together with the main channel in any order and told apart by their first word, a
/// thread each, which hands packets to the device that they name. Each channel holds one packet at a time.
/// </summary>
internal sealed class IncomingChannels(
    int count, Func<SaveVmAlias, EntryContext?> find, TransferScope scope, Action failing) : IDevicePacketReceiver, IDisposable
{
    private static readonly ReceiveOptions Bounds = new() { PacketLimit = OutgoingChannels.MaxPacket };

    private readonly ReceiveState _state = new(count, scope.CancellationToken);
    private readonly List<ChannelReader> _readers = [];
    private readonly List<SideThread> _threads = [];
    private readonly HashSet<SaveVmEntry> _inside = [];
    private readonly List<(byte[] IdStr, uint InstanceId, EntryContext Context)> _known = [];
    private int _ended;
    private long _packets;

    internal int Count { get; } = count;

    internal long Packets => Interlocked.Read(ref _packets);

    internal long Bytes => scope.Moved;

    /// <summary>Takes RAM; without, a channel that carries pages fails the migration at its end. To be set before the start.</summary>
    internal IRamPacketReceiver? Ram { get; set; }

    /// <summary>Called when every channel has ended, as a source ends it.</summary>
    internal Action? AllEnded { get; set; }

    /// <summary>Accepts the main channel and all others.</summary>
    /// <param name="open">Accepts one connection; it stays the caller's.</param>
    /// <returns>The main channel, and what was read of it already.</returns>
    internal (Stream Main, byte[] First) Accept(Func<TransferScope, Stream> open)
    {
        // A source says nothing on its main channel before all others are connected.
        var connections = new List<Stream>();
        while (connections.Count <= Count)
        {
            try
            {
                connections.Add(open(scope));
            }
            catch (WireException e) when (e.Reason == WireError.Timeout && connections.Count > 0)
            {
                throw new MultifdException(MultifdError.MissingChannel,
                    $"{connections.Count} of {Count + 1} connections came within {scope.Timeout.TotalSeconds:0.###} s: expected the main channel and {Count} multifd channels.",
                    e, "Give both sides the same number of multifd channels.");
            }
        }

        (Stream, byte[])? main = null;
        foreach (var connection in connections)
        {
            byte[] first = ReadFirstWord(connection);
            if (IsMain(first))
            {
                _state.AddMain();
                main = (connection, first);
            }
            else
            {
                _readers.Add(new ChannelReader(new PatientStream(connection, first, scope), "a new connection", scope.Count));
            }
        }

        return main ?? throw new MultifdException(MultifdError.MissingMainChannel,
            $"{Count + 1} connections came, and all of them are multifd channels.");
    }

    /// <summary>Starts to read the channels; every device is ready for packets.</summary>
    internal void Start()
    {
        foreach (var reader in _readers)
        {
            _threads.Add(SideThread.Start("multifd channel", scope, () => Serve(reader), failing));
        }
    }

    /// <summary>Waits until every channel has ended.</summary>
    /// <param name="waiting">Who waits for that, for the error.</param>
    internal void Join(string waiting)
    {
        foreach (var thread in _threads)
        {
            if (!thread.Await(Moved, scope))
            {
                throw FindHangingHandler() ?? new SaveVmException(SaveVmError.PeerSilent,
                    $"The main stream has ended, {waiting}, and nothing came over the multifd channels for {scope.Timeout.TotalSeconds:0.###} s. {_state.Describe()}");
            }
        }
    }

    /// <summary>Everything has been loaded: were all channels there, and was everything that they carried taken?</summary>
    internal void Check()
    {
        _state.CheckChannels();
        if (Ram is null && _state.Summarize(Bounds.PageSize).Channels.FirstOrDefault(c => c.NormalPages + c.ZeroPages > 0) is { } ram)
        {
            throw new SaveVmException(SaveVmError.NotSupported,
                $"Channel {ram.Id} carries {ram.NormalPages + ram.ZeroPages:N0} pages of RAM, which no handler takes.")
            { Section = $"channel {ram.Id}" };
        }
    }

    /// <summary>After the source was told: reads the channels to their ends, so that none is reset.</summary>
    /// <returns>What went wrong, or null.</returns>
    internal string? Finish()
    {
        bool ended = _threads.TrueForAll(t => t.Await(Moved, scope));
        return ended ? null : "The source does not close its multifd channels.";
    }

    /// <summary>Changes with every byte and packet.</summary>
    internal long Moved() => Bytes + Packets;

    /// <summary>Waits for the threads, whose waits have been cancelled.</summary>
    /// <returns>False if one hangs in a handler and was left behind.</returns>
    internal bool End() => SideThread.JoinAll(_threads, HandlerWatch.CancelGrace);

    /// <summary>Gives back what the threads waited on; all of them have ended.</summary>
    public void Dispose() => _threads.ForEach(t => t.Dispose());

    /// <inheritdoc/>
    public void Receive(in DeviceStatePacket packet, ChannelReader channel)
    {
        ArgumentNullException.ThrowIfNull(channel);
        int size = packet.PayloadSize;
        long offset = channel.Offset;
        var context = Device(packet, channel.Name, offset);
        channel.Advance(DeviceStatePacket.Size);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(size);
        channel.ReadExactly(buffer.AsSpan(0, size), "a packet of device state");
        Load(context, buffer.AsMemory(0, size), channel.Name, offset);
        ArrayPool<byte>.Shared.Return(buffer);
        Interlocked.Increment(ref _packets);
    }

    /// <summary>The failure of a handler that hangs with a packet, when nothing moves any more; null if none does.</summary>
    internal SaveVmException? FindHangingHandler()
    {
        lock (_inside)
        {
            return _inside.FirstOrDefault() is not { } entry ? null : new SaveVmException(SaveVmError.HandlerTimeout,
                $"{SaveVmHandler.LoadStateBuffer} of {HandlerCaller.Name(entry)} did not return within {scope.Timeout.TotalSeconds:0.###} s.")
            { Section = HandlerCaller.Name(entry), Target = entry.ToString() };
        }
    }

    private EntryContext Device(in DeviceStatePacket packet, string channel, long offset)
    {
        // Every packet names its device anew.
        lock (_known)
        {
            foreach (var (name, instance, context) in _known)
            {
                if (instance == packet.InstanceId && packet.IdStrBytes.SequenceEqual(name))
                {
                    return context;
                }
            }

            var found = Find(new SaveVmAlias(packet.IdStr, packet.InstanceId), channel, offset);
            _known.Add((packet.IdStrBytes.ToArray(), packet.InstanceId, found));
            return found;
        }
    }

    private EntryContext Find(SaveVmAlias name, string channel, long offset)
    {
        string? wrong = null;
        var context = find(name);
        if (context is null)
        {
            wrong = $"Nothing is registered here as '{name.IdStr}' instance {name.InstanceId}, for a packet";
        }
        else if (!context.Entry.Has(SaveVmHandler.LoadStateBuffer))
        {
            wrong = $"The handlers of '{context.Entry}' do not offer LoadStateBuffer, for a packet";
        }

        return wrong is null ? context! : throw new SaveVmException(
            context is null ? SaveVmError.UnknownSection : SaveVmError.InvalidHandlers, $"{wrong} at byte {offset:N0} of {channel}.")
        { Section = name.IdStr, ByteOffset = offset, Peer = channel };
    }

    private void Load(EntryContext context, ReadOnlyMemory<byte> data, string channel, long offset)
    {
        var entry = context.Entry;
        lock (_inside)
        {
            _inside.Add(entry);
        }

        try
        {
            entry.Handlers.LoadStateBuffer(data, context);
        }
        catch (Exception e) when (e is not OperationCanceledException || !scope.CancellationToken.IsCancellationRequested)
        {
            throw new SaveVmException(SaveVmError.HandlerFailed,
                $"{SaveVmHandler.LoadStateBuffer} of {HandlerCaller.Name(entry)} failed at a packet of {data.Length:N0} bytes at byte {offset:N0} of {channel}: {e.Message}", e)
            { Section = HandlerCaller.Name(entry), ByteOffset = offset, Target = entry.ToString(), Peer = channel };
        }
        finally
        {
            lock (_inside)
            {
                _inside.Remove(entry);
            }
        }
    }

    private void Serve(ChannelReader reader)
    {
        try
        {
            new RamAndDeviceChannel(reader, this, _state, null, Bounds, Ram).Run();
        }
        catch (WireException e)
        {
            throw StreamFailure.OfChannel(e, reader.Name);
        }

        // Not after a failure: what is missing is not reported before the cause is known.
        if (Interlocked.Increment(ref _ended) == Count)
        {
            AllEnded?.Invoke();
        }
    }

    private static bool IsMain(byte[] first)
    {
        var reader = WireReader.BigEndian(first, source: "a new connection");
        ChannelInit.TryReadKind(ref reader, out bool isMain);
        return isMain;
    }

    private static byte[] ReadFirstWord(Stream connection)
    {
        byte[] word = new byte[sizeof(uint)];
        int filled = connection.ReadAtLeast(word, word.Length, throwOnEndOfStream: false);
        return filled == word.Length ? word : throw new StreamException(StreamError.Truncated,
            $"A connection ended after {filled} bytes, before it said whether it is a main channel or a multifd channel.");
    }
}
