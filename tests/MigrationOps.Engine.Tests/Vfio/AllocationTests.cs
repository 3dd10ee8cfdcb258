using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>What the data path takes from the garbage collector, counted by it, on the one thread that does everything here.</summary>
public class AllocationTests
{
    private const int Warm = 200;
    private const int Stretch = 80;
    private const int Stretches = 5;
    private const int Packets = Warm + Stretches * Stretch;

    [Theory]
    [InlineData(1, 1 << 20)]
    [InlineData(8, 1 << 20)]
    [InlineData(8, 4096)]
    public void A_packet_allocates_nothing_once_the_buffers_are_there(int outOfOrder, int size)
    {
        using var folder = new TestFolder();
        using var devices = new DeviceStateReceiver(
            new ReassemblyOptions { SpillDirectory = folder.Path }, (_, _) => new NullSink(), TestContext.Current.CancellationToken);
        devices.OpenSections(new StreamSection(SectionKind.Start, 0, "d/vfio", 0, 1, 0, 0));
        devices.EndPreCopy(allAnnounced: true);
        using var reader = new ChannelReader(new DevicePacketStream(outOfOrder, size), "channel 0");
        Take(Warm);
        long least = long.MaxValue;
        for (int i = 0; i < Stretches; i++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            Take(Stretch);
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        // A collection in the background counts what was left of a thread's allocation area as allocated by it, without any
        // allocation. What packets take shows in every stretch, that in one.
        Assert.Equal(0, least);
        var device = Assert.Single(devices.Devices).Summary;
        Assert.Equal((long)Packets * size, device.Bytes);
        Assert.Equal(outOfOrder == 1 ? 0 : Packets / outOfOrder * (outOfOrder - 1), device.OutOfOrder);

        void Take(int count)
        {
            for (int i = 0; i < count; i++)
            {
                reader.Require(DeviceStatePacket.Size, "a packet");
                var bytes = reader.Bytes();
                DeviceStatePacket.TryRead(ref bytes, 2 << 20, out var packet);
                devices.Receive(packet, reader);
            }
        }
    }
}
