using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// Puts the packets of one device in order and delivers them. A packet that is due goes from its channel straight into the
/// sink, and all that waited for it follows on the same thread; the other threads leave theirs and continue reading, because
/// their channels carry other devices too.
/// </summary>
/// <remarks>
/// No thread ever waits for a packet. When the budget is used up, a thread waits only while another one delivers what has
/// arrived - that one waits for nothing but the sink - and puts its packet into the spill file otherwise. So no order of
/// arrival can bring the channels to a standstill.
/// </remarks>
internal sealed class DeviceReassembly
{
    private readonly object _lock = new();
    private readonly PacketOrder<HeldPacket> _order;
    private readonly DeviceTally _tally = new();
    private readonly ReassemblyContext _context;
    private byte[]? _config;
    private Delivery _delivery;
    private bool _open;
    private bool _broken;
    private bool _channelData;
    private bool _mainData;

    internal DeviceReassembly(
        string idStr, uint instanceId, ReassemblyContext context, IDeviceStateSink sink, PacketPlace first)
    {
        IdStr = idStr;
        InstanceId = instanceId;
        _context = context;
        _order = new PacketOrder<HeldPacket>(context.Options.Window);
        Sink = sink;
        First = first;
        Name = NameOf(idStr, instanceId);
    }

    private enum Delivery
    {
        None,

        /// <summary>A thread reads the packet that is due from its channel into the sink: it may wait for the source.</summary>
        FromChannel,

        /// <summary>A thread gives the sink what has arrived.</summary>
        OfHeld,
    }

    private enum Place
    {
        Sink,
        Memory,
        SpillFile,
    }

    internal string IdStr { get; }

    internal uint InstanceId { get; }

    internal string Name { get; }

    internal IDeviceStateSink Sink { get; }

    /// <summary>Where its first packet was found, if a packet came before its section.</summary>
    internal PacketPlace First { get; }

    internal bool IsAnnounced { get; set; }

    internal bool HasInitialData { get; set; }

    internal bool IsDone { get; private set; }

    internal static string NameOf(string idStr, uint instanceId)
        => $"device '{idStr}'" + (instanceId == 0 ? "" : $" instance {instanceId}");

    /// <summary>Data in the main stream: the pre-copy part, or all of it where channels carry none.</summary>
    internal void WriteMain(SectionKind kind, ReadOnlySpan<byte> data)
    {
        _tally.Start();
        if (kind is SectionKind.Start or SectionKind.Part)
        {
            if (_open)
            {
                throw new VfioException(VfioError.MixedTransfer,
                    $"{Name}: pre-copy data came in the main stream after the switchover.")
                { Section = Name };
            }

            _tally.PrecopyBytes += data.Length;
        }
        else
        {
            CheckMixed(main: true);
        }

        _tally.Bytes += data.Length;
        Sink.Write(data);
    }

    /// <summary>The config state in the main stream, where channels carry none.</summary>
    internal void CompleteMain(ReadOnlySpan<byte> config)
    {
        _tally.Start();
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
        VfioPacketHeader.CheckPayload(payload, place);
        channel.Require(VfioPacketHeader.Size, "a VFIO packet's header");
        var bytes = channel.Bytes();
        VfioPacketHeader.TryRead(ref bytes, place, out var header);
        channel.Advance(VfioPacketHeader.Size);
        int length = payload - VfioPacketHeader.Size;
        CheckMixed(main: false);
        if (Admit(header, length, place))
        {
            // Once, without holding up other threads: whoever is to send or to take what is due may be waiting for this processor. Not
            // before much is held: to change threads at every packet costs more than the memory that it saves.
            Thread.Yield();
        }

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

    /// <summary>Throws the failure that names what is missing.</summary>
    internal void Complete()
    {
        lock (_lock)
        {
            if (IsDone)
            {
                return;
            }

            throw _order.FindMissing(Name);
        }
    }

    internal void Abandon()
    {
        lock (_lock)
        {
            foreach (var packet in _order.Clear())
            {
                _context.Store.Release(packet);
            }
        }
    }

    internal DeviceSummary Summarize()
    {
        lock (_lock)
        {
            return _tally.Summarize(IdStr, InstanceId, _order);
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

    // True if so much waits for packets that have not come that the rest of the budget might not last.
    private bool Admit(VfioPacketHeader header, int length, in PacketPlace place)
    {
        lock (_lock)
        {
            _tally.Start();
            _order.Check(header, IsDone, place);
            _context.Budget.Track(header, _order.Next, place);
            _order.Add(header, HeldPacket.OnItsWay);
            if (header.Warning is { } warning)
            {
                _tally.Warn(warning);
            }

            if (length == 0)
            {
                _tally.Warn($"Packet {header.Index} has no data; a device whose data was lost is reset silently when it is loaded.");
            }

            return header.Index != _order.Next && _context.Budget.IsQuarterUsed;
        }
    }

    private bool CanDeliver => _open && !_broken && _delivery == Delivery.None;

    private void TakeConfig(ChannelReader channel, uint index, int length, in PacketPlace place)
    {
        ConfigState.CheckLength(length, place, index);
        byte[] body = new byte[length];
        channel.ReadExactly(body, "a config state");
        var state = ConfigState.Parse(body, place);
        lock (_lock)
        {
            if (state.Trailing > 0)
            {
                _tally.Warn($"{state.Trailing} bytes follow the end mark of the config state; QEMU ignores them.");
            }

            if (state.IsEmpty)
            {
                _tally.Warn("The config state is empty: the device has no saved PCI configuration space.");
            }

            _config = body[..state.Length];
        }
    }

    private void TakeData(ChannelReader channel, uint index, int length)
    {
        var where = FindPlace(index, length);
        if (where == Place.Sink)
        {
            PassOn(channel, length);
            return;
        }

        var packet = where == Place.Memory ? _context.Store.ReadToMemory(channel, length) : _context.Store.ReadToFile(channel, length);
        lock (_lock)
        {
            _order.Keep(index, packet);
            _tally.SpilledBytes += where == Place.SpillFile ? length : 0;
            _tally.Queue(length, goesOnAtOnce: index == _order.Next && CanDeliver);
        }
    }

    private void PassOn(ChannelReader channel, int length)
    {
        bool delivered = false;
        try
        {
            _context.Store.PassOn(channel, length, Sink);
            delivered = true;
        }
        finally
        {
            EndDelivery(length, delivered);
        }
    }

    private Place FindPlace(uint index, int length)
    {
        lock (_lock)
        {
            while (true)
            {
                if (index == _order.Next && CanDeliver)
                {
                    _order.Take();
                    _delivery = Delivery.FromChannel;
                    return Place.Sink;
                }

                if (_context.Store.TryReserve(length))
                {
                    return Place.Memory;
                }

                if (_delivery != Delivery.OfHeld)
                {
                    return Place.SpillFile;
                }

                // The thread that delivers pulses after every packet, and when it ends for whatever reason.
                _context.Cancelled.ThrowIfCancellationRequested();
                Monitor.Wait(_lock);
            }
        }
    }

    // Delivers what is due, unless another thread does already: that one looks again before it leaves.
    private void Drain()
    {
        while (TryTakeDue(out var packet))
        {
            bool delivered = false;
            try
            {
                _context.Store.Deliver(packet, Sink);
                delivered = true;
            }
            finally
            {
                _context.Store.Release(packet);
                EndDelivery(packet.Length, delivered, held: packet.Length);
            }
        }

        byte[]? config;
        lock (_lock)
        {
            if (!CanDeliver || IsDone || !_order.IsConfigDue || _config is null)
            {
                return;
            }

            config = _config;
            _delivery = Delivery.OfHeld;
        }

        Finish(config);
    }

    private bool TryTakeDue(out HeldPacket packet)
    {
        lock (_lock)
        {
            packet = default;
            if (!CanDeliver || !_order.TryGetDue(out packet) || !packet.IsReady)
            {
                return false;
            }

            _order.Take();
            _delivery = Delivery.OfHeld;
            return true;
        }
    }

    private void EndDelivery(int length, bool delivered, int held = 0)
    {
        lock (_lock)
        {
            // Nothing may follow a packet that the sink did not take.
            _broken |= !delivered;
            _tally.Dequeue(held);
            _tally.Bytes += length;
            _order.Advance();
            _context.Budget.Untrack();
            _delivery = Delivery.None;
            Monitor.PulseAll(_lock);
        }
    }

    private void Finish(ReadOnlySpan<byte> config)
    {
        Sink.Complete(config);
        lock (_lock)
        {
            _tally.End(config.Length);
            _config = null;
            _delivery = Delivery.None;
            IsDone = true;
            Monitor.PulseAll(_lock);
        }
    }
}

/// <summary>What the devices of one receipt share.</summary>
internal sealed record ReassemblyContext(
    ReassemblyOptions Options, PacketBudget Budget, PacketStore Store, CancellationToken Cancelled);
