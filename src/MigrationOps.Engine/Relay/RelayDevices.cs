using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Relay;

/// <summary>
/// The VFIO devices of a migration: whether each packet of their state is one that a target can load. Their data is passed on and not
/// kept; only the order of the packets is looked at. Whoever uses it holds no lock; any thread may.
/// </summary>
internal sealed class RelayDevices
{
    private const int MostDevices = 1024;

    // Memory for the order of packets only.
    private const long OrderBudget = 64 << 20;

    private readonly Lock _lock = new();
    private readonly PacketBudget _budget = new(OrderBudget);
    private readonly Dictionary<(string IdStr, uint Instance), Device> _devices = [];

    /// <summary>A device has a section in the main stream.</summary>
    internal void Announce(StreamSection section)
    {
        lock (_lock)
        {
            if (_devices.Count < MostDevices)
            {
                _devices.TryAdd((section.IdStr, section.InstanceId), new Device(section, _budget));
            }
        }
    }

    /// <summary>The main stream has a device's config state.</summary>
    internal void Complete(StreamSection section)
    {
        lock (_lock)
        {
            if (_devices.TryGetValue((section.IdStr, section.InstanceId), out var device))
            {
                device.IsDone = true;
            }
        }
    }

    /// <summary>True if a device has been announced.</summary>
    internal bool Knows(string idStr, uint instance)
    {
        lock (_lock)
        {
            return _devices.ContainsKey((idStr, instance));
        }
    }

    /// <summary>The devices of the migration, for the index of an archive.</summary>
    internal IReadOnlyList<Multifd.ArchivedDevice> Describe()
    {
        lock (_lock)
        {
            return [.. _devices.Values.Select(d => new Multifd.ArchivedDevice(d.Header.IdStr, d.Header.InstanceId, d.Order.Packets, d.Bytes, d.ConfigBytes))];
        }
    }

    /// <summary>What is missing of a device's state; null if nothing is.</summary>
    internal StreamException? FindMissing()
    {
        lock (_lock)
        {
            foreach (var device in _devices.Values)
            {
                if (!device.IsDone)
                {
                    return device.Order.FindMissing(device.Name);
                }
            }

            return null;
        }
    }

    /// <summary>Checks a packet of a device that has been announced.</summary>
    /// <param name="packet">The packet.</param>
    /// <param name="payload">As much of its payload as is there.</param>
    /// <param name="channel">Its channel, for errors.</param>
    /// <returns>How many bytes of the payload are needed for that; it is done once they are there.</returns>
    /// <exception cref="StreamException">A target cannot load it.</exception>
    internal int Check(in DeviceStatePacket packet, ReadOnlySpan<byte> payload, string channel)
    {
        string idStr = Encoding.UTF8.GetString(packet.IdStrBytes);
        lock (_lock)
        {
            var device = _devices[(idStr, packet.InstanceId)];
            var place = new PacketPlace(device.Name, channel, packet.Offset);
            VfioPacketHeader.CheckPayload(packet.PayloadSize, place);
            var reader = WireReader.BigEndian(payload);
            if (!VfioPacketHeader.TryRead(ref reader, place, out var header))
            {
                return VfioPacketHeader.Size;
            }

            int length = packet.PayloadSize - VfioPacketHeader.Size;
            if (!header.IsConfig)
            {
                device.Admit(header, place);
                if (length == 0)
                {
                    // A target takes it, and the device is reset silently.
                    throw place.Fail(StreamError.EmptyDevicePacket, "the packet has no data", header.Index);
                }

                device.Take(length);
                return VfioPacketHeader.Size;
            }

            ConfigState.CheckLength(length, place, header.Index);
            if (payload.Length < packet.PayloadSize)
            {
                return packet.PayloadSize;
            }

            device.Admit(header, place);
            device.ConfigBytes = ConfigState.Parse(payload[VfioPacketHeader.Size..], place).Length;
            device.LookForEnd();
            return packet.PayloadSize;
        }
    }

    private sealed class Device(StreamSection header, PacketBudget budget)
    {
        internal StreamSection Header => header;

        internal string Name { get; } = DeviceReassembly.NameOf(header.IdStr, header.InstanceId);

        // Nothing is kept of a packet but that it has come.
        internal PacketOrder<bool> Order { get; } = new(new ReassemblyOptions().Window);

        internal long Bytes { get; private set; }

        internal int ConfigBytes { get; set; }

        internal bool IsDone { get; set; }

        internal void Admit(VfioPacketHeader packet, in PacketPlace place)
        {
            Order.Check(packet, IsDone, place);
            budget.Track(packet, Order.Next, place);
            Order.Add(packet, true);
        }

        internal void Take(int length)
        {
            Bytes += length;
            while (Order.TryGetDue(out _))
            {
                Order.Take();
                Order.Advance();
                budget.Untrack();
            }

            LookForEnd();
        }

        internal void LookForEnd() => IsDone |= Order.IsConfigDue;
    }
}
