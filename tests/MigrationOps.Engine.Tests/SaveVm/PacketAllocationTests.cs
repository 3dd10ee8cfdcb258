using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.Vfio;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

/// <summary>
/// What a packet of a VFIO device takes from the garbage collector on its way from a channel of the target driver to the registered
/// device, counted on the one thread that does everything here.
/// </summary>
public class PacketAllocationTests
{
    private const int Warm = 40;
    private const int Stretch = 20;
    private const int Stretches = 5;

    [Theory]
    [InlineData(1, 1 << 20)]
    [InlineData(4, 1 << 20)]
    [InlineData(4, 4096)]
    public void A_packet_on_its_way_to_a_registered_device_allocates_nothing(int outOfOrder, int size)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        using var devices = new DeviceStateReceiver(new ReassemblyOptions(), (_, _) => new NullSink(), scope.CancellationToken);
        devices.Open("d/vfio", 0);
        devices.EndPreCopy(allAnnounced: true);
        var registry = new SaveVmRegistry();
        var entry = registry.Register("d/vfio", 0, 1, new Handlers(devices));
        var context = new EntryContext(entry, isSource: false, null, scope.CancellationToken);
        using var channels = new IncomingChannels(1, name => name.IdStr == "d/vfio" ? context : null, scope, () => { });
        using var reader = new ChannelReader(new DevicePacketStream(outOfOrder, size), "channel 0");
        Take(Warm);
        long least = long.MaxValue;
        for (int i = 0; i < Stretches; i++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            Take(Stretch);
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        // As in AllocationTests: what packets take shows in every stretch.
        Assert.Equal(0, least);
        Assert.Equal(Warm + (Stretches * Stretch), channels.Packets);
        Assert.Equal((long)(Warm + (Stretches * Stretch)) * size, Assert.Single(devices.Devices).Summary.Bytes);

        void Take(int count)
        {
            for (int i = 0; i < count; i++)
            {
                reader.Require(DeviceStatePacket.Size, "a packet");
                var bytes = reader.Bytes();
                DeviceStatePacket.TryRead(ref bytes, 2 << 20, out var packet);
                channels.Receive(packet, reader);
            }
        }
    }

    // What VfioSectionDevice does with a packet.
    private sealed class Handlers(DeviceStateReceiver devices) : ISaveVmHandlers
    {
        public SaveVmHandler Offered => SaveVmHandler.LoadState | SaveVmHandler.LoadStateBuffer;

        public void LoadStateBuffer(ReadOnlyMemory<byte> data, SaveVmContext context)
        {
            devices.Receive(context.IdStr, context.InstanceId, data);
            Assert.False(devices.IsComplete);
        }
    }
}
