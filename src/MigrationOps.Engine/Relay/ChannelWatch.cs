using System.Text;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Relay;

/// <summary>Looks at the packets of a multifd channel on their way: whether a target can take each, and where faults strike.</summary>
internal sealed class ChannelWatch(RelayRound round, RelayChannel channel, RelayPump pump) : IChannelVisitor
{
    private RamBlock? _block;
    private byte[] _device = [];
    private uint _instance;

    public void OnInit(ChannelInit init)
    {
    }

    public bool OnRamPacket(in RamPacket packet)
    {
        if (packet.Pages > 0)
        {
            CheckPages(packet);
        }

        channel.CountElement();
        channel.NormalPages += packet.NormalPages;
        channel.ZeroPages += packet.ZeroPages;
        long end = packet.Offset + RamPacket.SizeFor(round.State.PageSize) + packet.PayloadLength;
        if (packet.Header.IsSync)
        {
            pump.At(end, () => round.State.Change(channel.CountSync));
        }

        Strike(RelayPoint.Packet, packet.Offset, end);
        return false;
    }

    public int CheckDevicePacket(in DeviceStatePacket packet, ReadOnlySpan<byte> payload)
    {
        string idStr = Encoding.UTF8.GetString(packet.IdStrBytes);
        if (!SectionBodies.IsVfio(idStr))
        {
            // Another device's state has a form of its own.
            return 0;
        }

        if (_instance != packet.InstanceId || !packet.IdStrBytes.SequenceEqual(_device))
        {
            round.AwaitAnnouncement(idStr, packet.InstanceId, channel.Name, packet.Offset);
            (_device, _instance) = (packet.IdStrBytes.ToArray(), packet.InstanceId);
        }

        return round.State.Devices.Check(packet, payload, channel.Name);
    }

    public void OnDevicePacket(in DeviceStatePacket packet)
    {
        channel.CountElement();
        channel.DevicePackets++;
        long end = packet.Offset + DeviceStatePacket.Size + packet.PayloadSize;
        // The end of the main stream may wait for it.
        pump.At(end, () => round.State.Change(() => { }));
        Strike(RelayPoint.Packet, packet.Offset, end);
        Strike(RelayPoint.DevicePacket, packet.Offset, end);
    }

    public void OnWarning(string warning) => round.State.Warn($"{channel.Name}: {warning}.");

    public void OnPayload(ReadOnlySpan<byte> data)
    {
    }

    private void CheckPages(in RamPacket packet)
    {
        var compression = round.State.AgreeOn(packet.Header.Compression);
        if (compression != packet.Header.Compression)
        {
            throw StreamException.In(StreamError.InvalidRamPacket, channel.Name, packet.Offset,
                $"the packet is compressed with {packet.Header.CompressionName}, those before it with {new PacketHeader(compression).CompressionName}");
        }

        ulong all = 0;
        ulong highest = 0;
        for (int i = 0; i < packet.Pages; i++)
        {
            ulong place = packet.PageOffset(i);
            (all, highest) = (all | place, Math.Max(highest, place));
        }

        if (_block is not null && packet.IsOf(_block.NameBytes))
        {
            CheckPlaces(_block, packet.Offset, all, highest);
            return;
        }

        // The list of blocks may still be on its way in the main stream, which may wait for what comes before this packet.
        var (name, offset) = (packet.Block, packet.Offset);
        if (round.State.KnowsBlocks)
        {
            CheckPlaces(Find(name, offset), offset, all, highest);
        }
        else
        {
            pump.At(offset, () =>
            {
                round.State.WaitForBlocks(round.Cancelled);
                CheckPlaces(Find(name, offset), offset, all, highest);
            });
        }
    }

    private RamBlock Find(string name, long offset)
        => _block = round.State.FindBlock(name)
            ?? throw StreamException.In(StreamError.InvalidRamPacket, channel.Name, offset, $"the packet has pages of RAM block '{name}', which the main stream does not list");

    private void CheckPlaces(RamBlock block, long offset, ulong all, ulong highest)
    {
        if (highest >= (ulong)block.Length || (all & ((ulong)round.State.PageSize - 1)) != 0)
        {
            throw StreamException.In(StreamError.InvalidRamPacket, channel.Name, offset,
                $"the packet has a page at 0x{highest:x} of RAM block '{block.Name}', which is 0x{block.Length:x} bytes long, or one that is not at a page's start");
        }
    }

    private void Strike(RelayPoint point, long offset, long end)
        => round.Strike(point, pump, offset, end, channel);
}
