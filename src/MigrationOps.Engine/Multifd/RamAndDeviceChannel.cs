namespace MigrationOps.Engine.Multifd;

/// <summary>One multifd channel, from its init message to its end.</summary>
internal sealed class RamAndDeviceChannel(
    ChannelReader reader, IDevicePacketReceiver devices, ReceiveState state, IMigrationRecorder? recorder, ReceiveOptions options,
    IRamPacketReceiver? ram = null)
{
    internal void Run()
    {
        reader.Require(ChannelInit.Size, "the channel's init message");
        ChannelInit.Parse(reader.Buffered, out var init, reader.Name);
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
        long offset = reader.Offset;
        if (!reader.Fill(PacketHeader.Size))
        {
            if (reader.Buffered.Length > 0)
            {
                reader.Require(PacketHeader.Size, "a packet's header");
            }

            return false;
        }

        PacketHeader.Parse(reader.Buffered, out var header, reader.Name, offset);
        if (header.Unknown != 0)
        {
            state.Warn($"{reader.Name}: packets have the unknown flag bits 0x{(uint)header.Unknown:x}, which QEMU ignores.");
        }

        if (header.IsDeviceState)
        {
            ReadDevicePacket(offset);
            counters.DevicePackets++;
            state.Changed();
        }
        else
        {
            ReadRamPacket(counters, offset);
        }

        return true;
    }

    private void ReadDevicePacket(long offset)
    {
        reader.Require(DeviceStatePacket.Size, "a device-state packet");
        DeviceStatePacket.Parse(reader.Buffered, out var packet, options.PacketLimit, reader.Name, offset);
        devices.Receive(packet, reader);
    }

    private void ReadRamPacket(ChannelCounters counters, long offset)
    {
        int size = RamPacket.SizeFor(options.PageSize);
        reader.Require(size, "a RAM packet");
        RamPacket.Parse(reader.Buffered, out var packet, options.PageSize, options.PacketLimit, reader.Name, offset);
        if (ram is null)
        {
            reader.Advance(size);
            reader.Skip(packet.NextPacketSize, "the pages of a RAM packet");
        }
        else
        {
            ram.Receive(packet, size, reader);
        }

        counters.RamPackets++;
        counters.NormalPages += packet.NormalPages;
        counters.ZeroPages += packet.ZeroPages;
        counters.Compression |= packet.Header.Compression;
        if (packet.Header.IsSync)
        {
            counters.CountSync();
            state.Changed();
            ram?.Sync();
        }
    }
}
