using System.Runtime.InteropServices;
using System.Text;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// Takes the state of all VFIO devices of one migration: what is in the main stream and what comes over channels, each
/// device's in order into its own sink.
/// </summary>
internal sealed class DeviceStateReceiver : IDeviceStateReceiver, IDisposable
{
    private const int KeyLength = DeviceStatePacket.IdStrSize + 12;

    // Each channel has a thread of its own, and one packet at a time.
    [ThreadStatic]
    private static ChannelReader? t_packet;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, DeviceReassembly> _devices = new(StringComparer.Ordinal);
    private readonly Dictionary<string, DeviceReassembly>.AlternateLookup<ReadOnlySpan<char>> _lookup;
    private readonly Func<string, uint, IDeviceStateSink> _openSink;
    private readonly ReassemblyContext _context;
    private int _initialDataMarks;
    private bool _open;
    private bool _allAnnounced;

    /// <summary>Creates the receiver.</summary>
    /// <param name="options">Bounds.</param>
    /// <param name="openSink">Opens the sink of a device by idstr and instance id; the receiver disposes it.</param>
    /// <param name="cancellationToken">Ends every wait.</param>
    public DeviceStateReceiver(
        ReassemblyOptions options, Func<string, uint, IDeviceStateSink> openSink, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(options);
        var budget = new PacketBudget(options.MemoryBudget);
        var buffers = new PacketBuffers(options.MemoryBudget, SpareSlabs.Shared);
        var store = new PacketStore(budget, buffers, new SpillFile(options.SpillDirectory));
        _context = new ReassemblyContext(options, budget, store, cancellationToken);
        _openSink = openSink;
        _lookup = _devices.GetAlternateLookup<ReadOnlySpan<char>>();
    }

    /// <summary>Told the names of all devices before the migration may succeed; throws if they are not what was wanted.</summary>
    internal Action<IReadOnlyList<string>>? CheckDevices { get; init; }

    /// <inheritdoc/>
    public bool IsComplete => All(d => d.IsDone);

    /// <inheritdoc/>
    public bool HasInitialData => All(d => d.HasInitialData);

    /// <inheritdoc/>
    public int InitialDataMarks => Volatile.Read(ref _initialDataMarks);

    /// <summary>What was received, a device each, in the order of their names.</summary>
    public IReadOnlyList<(DeviceSummary Summary, IDeviceStateSink Sink)> Devices
    {
        get
        {
            lock (_lock)
            {
                return [.. _devices.Values.OrderBy(d => d.IdStr, StringComparer.Ordinal).ThenBy(d => d.InstanceId)
                    .Select(d => (d.Summarize(), d.Sink))];
            }
        }
    }

    /// <inheritdoc/>
    public IDeviceSections? OpenSections(StreamSection section)
    {
        ArgumentNullException.ThrowIfNull(section);
        return SectionBodies.IsVfio(section.IdStr) ? Open(section.IdStr, section.InstanceId) : null;
    }

    /// <summary>A device of the main stream, whatever it is called.</summary>
    /// <param name="idStr">Name of its section.</param>
    /// <param name="instanceId">Number among the sections of that name.</param>
    internal IDeviceSections Open(string idStr, uint instanceId)
    {
        var device = Find(Encoding.UTF8.GetBytes(idStr), instanceId, new PacketPlace(idStr, "main channel", 0));
        device.IsAnnounced = true;
        return new DeviceSection(this, device);
    }

    /// <summary>Takes the payload of one packet from a caller that has read it and knows its offset.</summary>
    internal void Receive(string idStr, uint instanceId, ReadOnlyMemory<byte> payload)
    {
        Span<char> key = stackalloc char[KeyLength];
        idStr.CopyTo(key);
        var device = Find(key, idStr.Length, instanceId, PacketPlace.Unknown);
        var reader = t_packet ??= ChannelReader.OfPackets("a packet");
        reader.Load(MemoryMarshal.TryGetArray(payload, out var bytes) ? bytes : new ArraySegment<byte>(payload.ToArray()));
        device.Receive(reader, payload.Length, PacketPlace.Unknown with { Device = device.Name });
    }

    /// <inheritdoc/>
    public void Receive(in DeviceStatePacket packet, ChannelReader channel)
    {
        ArgumentNullException.ThrowIfNull(channel);
        int size = packet.PayloadSize;
        var place = new PacketPlace("", channel.Name, channel.Offset);
        var device = Find(packet.IdStrBytes, packet.InstanceId, place);
        channel.Advance(DeviceStatePacket.Size);
        device.Receive(channel, size, place with { Device = device.Name });
    }

    /// <inheritdoc/>
    public void EndPreCopy(bool allAnnounced)
    {
        DeviceReassembly[] devices;
        lock (_lock)
        {
            _open = true;
            _allAnnounced |= allAnnounced;
            devices = [.. _devices.Values];
        }

        if (allAnnounced && devices.FirstOrDefault(d => !d.IsAnnounced) is { } unknown)
        {
            throw Unknown(unknown.Name, unknown.First);
        }

        if (allAnnounced)
        {
            CheckDevices?.Invoke([.. devices.Select(d => d.IdStr)]);
        }

        foreach (var device in devices)
        {
            device.Open();
        }
    }

    /// <inheritdoc/>
    public void Complete()
    {
        lock (_lock)
        {
            foreach (var device in _devices.Values)
            {
                device.Complete();
            }

            CheckDevices?.Invoke([.. _devices.Values.Select(d => d.IdStr)]);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var device in _devices.Values)
        {
            device.Abandon();
            device.Sink.Dispose();
        }

        _context.Store.Dispose();
    }

    private bool All(Func<DeviceReassembly, bool> predicate)
    {
        lock (_lock)
        {
            // Asked for every packet, so without an enumerator on the heap.
            foreach (var device in _devices.Values)
            {
                if (!predicate(device))
                {
                    return false;
                }
            }

            return true;
        }
    }

    private DeviceReassembly Find(ReadOnlySpan<byte> idStr, uint instanceId, in PacketPlace place)
    {
        Span<char> key = stackalloc char[KeyLength];
        return Find(key, Encoding.UTF8.GetChars(idStr, key), instanceId, place);
    }

    // The key has the idstr, and room for the instance behind it.
    private DeviceReassembly Find(Span<char> key, int length, uint instanceId, in PacketPlace place)
    {
        key[length] = '\0';
        instanceId.TryFormat(key[(length + 1)..], out int digits);
        key = key[..(length + 1 + digits)];
        lock (_lock)
        {
            if (_lookup.TryGetValue(key, out var device))
            {
                return device;
            }

            string name = new(key[..length]);
            if (_devices.Count >= _context.Options.MaxDevices)
            {
                throw VfioException.At(VfioError.TooManyDevices, place with { Device = DeviceReassembly.NameOf(name, instanceId) },
                    $"there are {_devices.Count} devices already, which is the limit");
            }

            if (_allAnnounced)
            {
                throw Unknown(DeviceReassembly.NameOf(name, instanceId), place);
            }

            device = new DeviceReassembly(name, instanceId, _context, _openSink(name, instanceId), place);
            _devices.Add(new string(key), device);
            if (_open)
            {
                device.Open();
            }

            return device;
        }
    }

    private static VfioException Unknown(string name, in PacketPlace place)
        => VfioException.At(VfioError.UnknownDevice, place with { Device = name }, "the main stream has no such device");

    private sealed class DeviceSection(DeviceStateReceiver receiver, DeviceReassembly device) : IDeviceSections
    {
        public void Data(SectionKind kind, ReadOnlySpan<byte> data) => device.WriteMain(kind, data);

        public void InitialDataSent()
        {
            device.HasInitialData = true;
            Interlocked.Increment(ref receiver._initialDataMarks);
        }

        public void Config(ReadOnlySpan<byte> body) => device.CompleteMain(body);
    }
}
