using System.Buffers.Binary;
using MigrationOps.Engine.Devices;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.SaveVm;
using MigrationOps.Engine.Tests.Storage;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Tests.Vfio;
using MigrationOps.Engine.Tests.Vhost;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.Engine.Tests.Devices;

/// <summary>A VFIO device as a device of a stream, while it runs: sizes, marks and acknowledgements.</summary>
public class SectionPreCopyTests
{
    private const VfioMigrationFlags PreCopy = VfioMigrationFlags.StopCopy | VfioMigrationFlags.PreCopy;

    [Theory]
    [InlineData(SwitchoverAckCount.Once)]
    [InlineData(SwitchoverAckCount.PerDevice)]
    public void The_switchover_waits_until_the_initial_data_has_come(SwitchoverAckCount count)
    {
        using FakeVfioDriver a = NewSource(), b = new(PreCopy);
        var pair = new MigrationPair();
        pair.SourceOptions = pair.SourceOptions with { SwitchoverAck = true, SwitchoverAckCount = count };
        pair.TargetOptions = pair.TargetOptions with { SwitchoverAck = true, SwitchoverAckCount = count };
        pair.Source.Register("v/vfio", 0, 1, new VfioSectionDevice(() => a));
        pair.Target.Register("v/vfio", 0, 1, new VfioSectionDevice(() => b));
        pair.Succeed();
        Assert.True(pair.SourceResult!.SwitchoverAcknowledged && pair.TargetResult!.SwitchoverAcknowledged);
        Assert.Equal(Whole(a), b.State);
        Assert.Equal((VfioState.Stop, VfioState.Running), (a.Now, b.Now));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void The_mark_of_the_initial_datas_end_comes_once_and_only_where_it_is_waited_for(bool ack)
    {
        using var a = NewSource();
        var device = new VfioSectionDevice(() => a);
        var context = Context(device, ack);
        using var stream = new MemoryStream();
        using var output = new Body(stream);
        device.SavePrepare(context);
        device.SaveSetup(output, context);
        Assert.Equal(2 << 20, device.StatePendingEstimate(context).MustPrecopy);
        Assert.Equal((ulong)VfioMarker.EndOfState, LastWord(stream));

        int turns = 0, marks = 0;
        while (!device.SaveLiveIterate(output, context))
        {
            marks += LastWord(stream) == (ulong)VfioMarker.InitDataSent ? 1 : 0;
            Assert.True(++turns < 20, "pre-copy never ends");
        }

        Assert.Equal(ack ? 1 : 0, marks);
        Assert.Equal(0, device.StatePendingEstimate(context).MustPrecopy);
        Assert.Equal(a.GetStopCopySize(), device.StatePendingExact(context).MustPrecopy);
        device.SaveCleanup(context);
    }

    [Fact]
    public void A_device_that_is_stopped_is_not_set_running_for_pre_copy()
    {
        using FakeVfioDriver a = new(PreCopy, States.RandomBytes(5000)) { Now = VfioState.Stop };
        var device = new VfioSectionDevice(() => a);
        var context = Context(device, ack: false);
        using var output = new Body(new MemoryStream());
        device.SavePrepare(context);
        device.SaveSetup(output, context);
        Assert.False(device.IsActiveIterate(context));
        Assert.Equal((0, 5000), (device.StatePendingEstimate(context).MustPrecopy, device.StatePendingExact(context).MustPrecopy));
        Assert.Empty(a.Entered);
        device.Dispose();
    }

    private static FakeVfioDriver NewSource() => new(PreCopy, States.RandomBytes(700_000))
    {
        Initial = States.RandomBytes(2 << 20),
        Dirtied = [States.RandomBytes(300_000), States.RandomBytes(2_000_000)],
    };

    private static byte[] Whole(FakeVfioDriver a) => [.. a.Initial!, .. a.Dirtied.SelectMany(d => d), .. a.State];

    private static EntryContext Context(VfioSectionDevice device, bool ack)
        => new(Migrations.Registry(("v/vfio", device)).Entries[0], isSource: true, null, TestContext.Current.CancellationToken) { AwaitsAck = ack };

    private static ulong LastWord(MemoryStream stream) => BinaryPrimitives.ReadUInt64BigEndian(stream.ToArray().AsSpan()[^8..]);

    private sealed class Body(Stream target) : SaveVmSaveStream
    {
        public override long StreamOffset => target.Position;

        public override long RemainingBudget => long.MaxValue;

        public override bool BudgetExceeded => false;

        public override void Write(ReadOnlySpan<byte> buffer) => target.Write(buffer);
    }
}
