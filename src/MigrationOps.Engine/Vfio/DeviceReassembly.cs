using System.Diagnostics;
using MigrationOps.Engine.Multifd;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// Puts the packets of one device in order and delivers them. The thread that brings the packet that is due delivers it
/// and all that waited for it; the others leave theirs and go on reading, because their channels carry other devices too.
/// </summary>
/// <remarks>
/// Nobody ever waits for a packet. When the budget is used up, a thread waits only while another one is delivering - that
/// one waits for nothing but the sink - and puts its packet into the spill file otherwise. So no order of arrival can
/// bring the channels to a standstill.
/// </remarks>
internal sealed class DeviceReassembly
{
    private const int SpillPiece = 64 * 1024;

    private readonly object _lock = new();
    private readonly Dictionary<uint, HeldPacket> _held = [];
    private readonly SortedSet<string> _warnings = new(StringComparer.Ordinal);
    private readonly ReassemblyContext _context;
    private readonly IDeviceStateSink _sink;
    private readonly PacketPlace _first;
    private uint _next;
    private uint? _configIndex;
    private byte[]? _config;
    private uint _seenAbove;
    private uint _lowestAbsent;
    private bool _delivering;
    private bool _open;
    private bool _broken;
    private bool _channelData;
    private bool _mainData;
    private long _queued;
    private long _packets;
    private long _bytes;
    private long _precopy;
    private long _outOfOrder;
    private long _maxQueued;
    private long _spilled;
    private int _configBytes;
    private long _started;
    private long _ended;

    internal DeviceReassembly(
        string idStr, uint instanceId, ReassemblyContext context, IDeviceStateSink sink, PacketPlace first)
    {
        IdStr = idStr;
        InstanceId = instanceId;
        _context = context;
        _sink = sink;
        _first = first;
        Name = NameOf(idStr, instanceId);
    }

    internal string IdStr { get; }

    internal uint InstanceId { get; }

    internal string Name { get; }

    internal IDeviceStateSink Sink => _sink;

    /// <summary>Where its first packet was found, if a packet came before its section.</summary>
    internal PacketPlace First => _first;

    internal bool IsAnnounced { get; set; }

    internal bool HasInitialData { get; set; }

    internal bool IsDone { get; private set; }

    internal static string NameOf(string idStr, uint instanceId)
        => $"device '{idStr}'" + (instanceId == 0 ? "" : $" instance {instanceId}");

    /// <summary>Data in the main stream: the pre-copy part, or all of it where channels carry none.</summary>
    internal void WriteMain(SectionKind kind, ReadOnlySpan<byte> data)
    {
        Start();
        if (kind is SectionKind.Start or SectionKind.Part)
        {
            if (_open)
            {
                throw new VfioException(VfioError.MixedTransfer,
                    $"{Name}: pre-copy data came in the main stream after the switchover.")
                { Section = Name };
            }

            _precopy += data.Length;
        }
        else
        {
            CheckMixed(main: true);
        }

        _bytes += data.Length;
        _sink.Write(data);
    }

    /// <summary>The config state in the main stream, where channels carry none.</summary>
    internal void CompleteMain(ReadOnlySpan<byte> config)
    {
        Start();
        CheckMixed(main: true);
        var body = ConfigState.Parse(config, new PacketPlace(Name, "main channel", 0));
        Finish(config[..body.Length]);
    }

    /// <summary>The pre-copy part is over: what came over channels may be delivered.</summary>
    internal void Open()
    {
        lock (_lock)
        {
            _open = true;
        }

        Drain();
    }

    /// <summary>Takes one packet from a channel.</summary>
    internal void Receive(ChannelReader channel, int payload, in PacketPlace place)
    {
        if (payload < VfioPacketHeader.Size)
        {
            throw place.Fail(VfioError.ShortPacket,
                $"the packet has {payload} bytes, its header alone has {VfioPacketHeader.Size}");
        }

        channel.Require(VfioPacketHeader.Size, "a VFIO packet's header");
        VfioPacketHeader.Parse(channel.Buffered, out var header, place);
        channel.Advance(VfioPacketHeader.Size);
        int length = payload - VfioPacketHeader.Size;
        Admit(header, length, place);
        if (header.IsConfig)
        {
            TakeConfig(channel, header.Index, length, place);
        }
        else
        {
            TakeData(channel, header.Index, length);
        }

        Drain();
    }

    /// <summary>Throws the failure that names what never came.</summary>
    internal void Complete()
    {
        lock (_lock)
        {
            if (IsDone)
            {
                return;
            }

            if (_held.Count > 0 || _configIndex > _next)
            {
                throw new VfioException(VfioError.MissingPacket,
                    $"{Name}: packet {_next} never came; {_held.Count + (_configIndex is null ? 0 : 1)} later ones, up to {_seenAbove - 1}, wait for it.")
                { Section = Name };
            }

            throw new VfioException(VfioError.MissingConfig,
                $"{Name}: the config state never came, after {_packets} packets and {_bytes:N0} bytes of data.")
            { Section = Name };
        }
    }

    internal void Abandon()
    {
        lock (_lock)
        {
            foreach (var packet in _held.Values)
            {
                Release(packet);
            }

            _held.Clear();
        }
    }

    internal DeviceSummary Summarize()
    {
        lock (_lock)
        {
            return new DeviceSummary(IdStr, InstanceId, _packets, _bytes, _precopy, _outOfOrder, _maxQueued, _spilled, _configBytes,
                _started == 0 ? TimeSpan.Zero : Stopwatch.GetElapsedTime(_started, _ended), [.. _warnings]);
        }
    }

    private void Start()
    {
        if (_started == 0)
        {
            _started = Stopwatch.GetTimestamp();
        }
    }

    private void CheckMixed(bool main)
    {
        lock (_lock)
        {
            _mainData |= main;
            _channelData |= !main;
            if (_mainData && _channelData)
            {
                throw new VfioException(VfioError.MixedTransfer,
                    $"{Name}: its last state came in the main stream and over multifd channels both.")
                { Section = Name };
            }
        }
    }

    private void Admit(VfioPacketHeader header, int length, in PacketPlace place)
    {
        CheckMixed(main: false);
        uint index = header.Index;
        lock (_lock)
        {
            Start();
            if (_held.ContainsKey(index) || (_delivering && index == _next))
            {
                throw place.Fail(header.IsConfig && index == _configIndex ? VfioError.DuplicateConfig : VfioError.DuplicateIndex,
                    "the index is present already", index);
            }

            if (header.IsConfig && _configIndex is { } other)
            {
                throw place.Fail(VfioError.DuplicateConfig, $"a config packet with index {other} is present already", index);
            }

            if (index > _next && index - _next > _context.Options.Window)
            {
                throw place.Fail(VfioError.IndexBeyondWindow,
                    $"packet {_next} is due, and the window is {_context.Options.Window:N0}", index);
            }

            if (_configIndex < index)
            {
                throw place.Fail(VfioError.PacketAfterConfig, $"the config packet has index {_configIndex} and is the last", index);
            }

            if (index < _next || IsDone)
            {
                throw place.Fail(VfioError.IndexBehind, $"the packets before {_next} have been delivered already", index);
            }

            if (header.IsConfig && index < _seenAbove)
            {
                throw place.Fail(VfioError.ConfigTooEarly, $"the config packet is the last, but packet {_seenAbove - 1} is present", index);
            }

            if (!_context.Budget.TryTrack())
            {
                throw place.Fail(VfioError.TooManyOutOfOrder,
                    $"so many packets wait for packet {_next} that the budget of {_context.Budget.Limit:N0} bytes cannot keep track of them", index);
            }

            if (header.IsConfig)
            {
                _configIndex = index;
            }
            else
            {
                _held.Add(index, HeldPacket.OnItsWay);
            }

            _seenAbove = Math.Max(_seenAbove, index + 1);
            _packets++;
            _outOfOrder += index != _lowestAbsent ? 1 : 0;
            while (_held.ContainsKey(_lowestAbsent) || _configIndex == _lowestAbsent)
            {
                _lowestAbsent++;
            }

            if (header.UnknownFlags != 0)
            {
                Warn($"Packets have the unknown flag bits 0x{header.UnknownFlags:x}, which QEMU ignores.");
            }

            if (length == 0)
            {
                Warn($"Packet {index} has no data; a device whose data was lost is reset silently when it is loaded.");
            }
        }
    }

    private void TakeConfig(ChannelReader channel, uint index, int length, in PacketPlace place)
    {
        if (length > ConfigState.Limit)
        {
            throw place.Fail(VfioError.InvalidConfig, $"a config state of {length:N0} bytes is beyond the limit of {ConfigState.Limit:N0}", index);
        }

        byte[] body = new byte[length];
        channel.ReadExactly(body, "a config state");
        var state = ConfigState.Parse(body, place);
        lock (_lock)
        {
            if (state.Trailing > 0)
            {
                Warn($"{state.Trailing} bytes follow the end mark of the config state; QEMU ignores them.");
            }

            if (state.IsEmpty)
            {
                Warn("The config state is empty: the device has no saved PCI configuration space.");
            }

            _config = body[..state.Length];
        }
    }

    private void TakeData(ChannelReader channel, uint index, int length)
    {
        long cost = MemoryBudget.CostOf(length);
        var packet = ChargeOrWait(cost) ? ReadToMemory(channel, length, cost) : Spill(channel, length);
        lock (_lock)
        {
            _held[index] = packet;
            _queued += length;
            bool isDue = index == _next && _open && !_delivering;
            _maxQueued = isDue ? _maxQueued : Math.Max(_maxQueued, _queued);
        }
    }

    private bool ChargeOrWait(long cost)
    {
        if (_context.Budget.TryCharge(cost))
        {
            return true;
        }

        lock (_lock)
        {
            while (!_context.Budget.TryCharge(cost))
            {
                if (!_delivering)
                {
                    return false;
                }

                _context.Cancelled.ThrowIfCancellationRequested();
                // The thread that delivers pulses after every packet, and when it ends for whatever reason.
                Monitor.Wait(_lock);
            }

            return true;
        }
    }

    private HeldPacket ReadToMemory(ChannelReader channel, int length, long cost)
    {
        var budget = _context.Budget;
        if (length <= MemoryBudget.ChunkSize)
        {
            byte[]? buffer = length == 0 ? null : budget.Rent(length);
            channel.ReadExactly(buffer.AsSpan(0, length), "a packet's data");
            return HeldPacket.InMemory(buffer, length, cost);
        }

        byte[][] pieces = new byte[(length + MemoryBudget.ChunkSize - 1) / MemoryBudget.ChunkSize][];
        for (int i = 0; i < pieces.Length; i++)
        {
            int size = Math.Min(MemoryBudget.ChunkSize, length - i * MemoryBudget.ChunkSize);
            pieces[i] = budget.Rent(size);
            channel.ReadExactly(pieces[i].AsSpan(0, size), "a packet's data");
        }

        return HeldPacket.InMemory(pieces, length, cost);
    }

    private HeldPacket Spill(ChannelReader channel, int length)
    {
        long offset = _context.Spill.Reserve(length);
        byte[] piece = System.Buffers.ArrayPool<byte>.Shared.Rent(SpillPiece);
        try
        {
            for (int done = 0; done < length;)
            {
                var part = piece.AsSpan(0, Math.Min(SpillPiece, length - done));
                channel.ReadExactly(part, "a packet's data");
                _context.Spill.Write(offset + done, part);
                done += part.Length;
            }
        }
        finally
        {
            System.Buffers.ArrayPool<byte>.Shared.Return(piece);
        }

        lock (_lock)
        {
            _spilled += length;
        }

        return HeldPacket.InFile(offset, length);
    }

    // Delivers what is due, unless another thread does already: that one looks again before it leaves.
    private void Drain()
    {
        while (TryTakeDue(out var packet))
        {
            bool delivered = false;
            try
            {
                Deliver(packet);
                delivered = true;
            }
            finally
            {
                lock (_lock)
                {
                    // Nothing may follow a packet that the sink did not take.
                    _broken |= !delivered;
                    Release(packet);
                    _queued -= packet.Length;
                    _bytes += packet.Length;
                    _next++;
                    _delivering = false;
                    Monitor.PulseAll(_lock);
                }
            }
        }

        byte[]? config;
        lock (_lock)
        {
            if (!_open || _broken || _delivering || IsDone || _configIndex != _next || _config is null)
            {
                return;
            }

            config = _config;
            _delivering = true;
        }

        Finish(config);
    }

    private bool TryTakeDue(out HeldPacket packet)
    {
        lock (_lock)
        {
            packet = default;
            if (!_open || _broken || _delivering || !_held.TryGetValue(_next, out packet) || !packet.IsReady)
            {
                return false;
            }

            _held.Remove(_next);
            _delivering = true;
            return true;
        }
    }

    private void Deliver(in HeldPacket packet)
    {
        if (packet.IsSpilled)
        {
            DeliverSpilled(packet);
        }
        else if (packet.Pieces is { } pieces)
        {
            for (int i = 0; i < pieces.Length; i++)
            {
                _sink.Write(pieces[i].AsSpan(0, Math.Min(MemoryBudget.ChunkSize, packet.Length - i * MemoryBudget.ChunkSize)));
            }
        }
        else if (packet.Buffer is { } buffer)
        {
            _sink.Write(buffer.AsSpan(0, packet.Length));
        }
    }

    private void DeliverSpilled(in HeldPacket packet)
    {
        byte[] piece = System.Buffers.ArrayPool<byte>.Shared.Rent(SpillPiece);
        try
        {
            for (int done = 0; done < packet.Length;)
            {
                var part = piece.AsSpan(0, Math.Min(SpillPiece, packet.Length - done));
                _context.Spill.Read(packet.SpillOffset + done, part);
                _sink.Write(part);
                done += part.Length;
            }
        }
        finally
        {
            System.Buffers.ArrayPool<byte>.Shared.Return(piece);
        }
    }

    private void Finish(ReadOnlySpan<byte> config)
    {
        _sink.Complete(config);
        lock (_lock)
        {
            _configBytes = config.Length;
            _config = null;
            _ended = Stopwatch.GetTimestamp();
            _delivering = false;
            IsDone = true;
            Monitor.PulseAll(_lock);
        }
    }

    private void Release(in HeldPacket packet)
    {
        if (packet.IsSpilled)
        {
            _context.Spill.Release(packet.Length);
        }

        if (packet.Buffer is { } buffer)
        {
            _context.Budget.Return(buffer);
        }

        foreach (byte[] piece in packet.Pieces ?? [])
        {
            _context.Budget.Return(piece);
        }

        _context.Budget.Release(packet.Cost);
        _context.Budget.Untrack();
    }

    private void Warn(string warning)
    {
        // The peer decides how many there are.
        if (_warnings.Count < 20)
        {
            _warnings.Add(warning);
        }
    }
}

/// <summary>What the devices of one receipt share.</summary>
internal sealed record ReassemblyContext(
    ReassemblyOptions Options, MemoryBudget Budget, SpillFile Spill, CancellationToken Cancelled);
