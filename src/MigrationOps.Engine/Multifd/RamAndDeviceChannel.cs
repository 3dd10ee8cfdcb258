using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Multifd;

/// <summary>One multifd channel, from its init message to its end.</summary>
internal sealed class RamAndDeviceChannel(
    ChannelReader reader, IDevicePacketReceiver devices, ReceiveState state, IMigrationRecorder? recorder, ReceiveOptions options,
    IRamPacketReceiver? ram = null)
{
    internal void Run()
    {
        reader.Require(ChannelInit.Size, "the channel's init message");
        var bytes = reader.Bytes();
        ChannelInit.TryRead(ref bytes, out var init);
        reader.Name = $"channel {init.Id}";
        var counters = state.AddChannel(init, reader.Name);
        reader.RecordTo(recorder?.OpenChannel(init.Id));
        reader.Advance(ChannelInit.Size);
        while (ReadPacket(counters))
        {
            counters.Bytes = reader.Offset;
        }

        state.EndChannel();
    }

    private bool ReadPacket(ChannelCounters counters)
    {
        if (!reader.Fill(PacketHeader.Size))
        {
            if (reader.Buffered.Length > 0)
            {
                reader.Require(PacketHeader.Size, "a packet's header");
            }

            return false;
        }

        var bytes = reader.Bytes();
        PacketHeader.TryRead(ref bytes, out var header);
        if (header.Warning is { } warning)
        {
            state.Warn($"{reader.Name}: {warning}.");
        }

        if (header.IsDeviceState)
        {
            ReadDevicePacket(header);
            counters.DevicePackets++;
            state.Changed();
        }
        else
        {
            ReadRamPacket(counters, header);
        }

        return true;
    }

    private void ReadDevicePacket(PacketHeader header)
    {
        reader.Require(DeviceStatePacket.Size, "a device-state packet");
        var bytes = reader.Bytes(PacketHeader.Size);
        DeviceStatePacket.TryRead(ref bytes, header, options.PacketLimit, out var packet);
        devices.Receive(packet, reader);
    }

    private void ReadRamPacket(ChannelCounters counters, PacketHeader header)
    {
        int size = RamPacket.SizeFor(options.PageSize);
        reader.Require(size, "a RAM packet");
        var bytes = reader.Bytes(PacketHeader.Size);
        RamPacket.TryRead(ref bytes, header, options.PageSize, options.PacketLimit, out var packet);
        counters.RamPackets++;
        counters.NormalPages += packet.NormalPages;
        counters.ZeroPages += packet.ZeroPages;
        counters.Compression |= header.Compression;
        if (ram is null)
        {
            long payload = packet.PayloadLength;
            reader.Advance(size);
            reader.Skip(payload, "the pages of a RAM packet");
        }
        else
        {
            ram.Receive(packet, size, reader);
        }

        if (header.IsSync)
        {
            counters.CountSync();
            state.Changed();
            ram?.Sync();
        }
    }
}
