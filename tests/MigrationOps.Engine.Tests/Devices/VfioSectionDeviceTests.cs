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
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Devices;

public class VfioSectionDeviceTests
{
    private const VfioMigrationFlags StopCopy = VfioMigrationFlags.StopCopy;

    [Theory]
    [InlineData(0, StopCopy)]
    [InlineData(5, StopCopy | VfioMigrationFlags.P2P)]
    [InlineData(3_500_000, StopCopy)]
    [InlineData(3_500_000, StopCopy | VfioMigrationFlags.PreCopy)]
    [InlineData(10, StopCopy | VfioMigrationFlags.PreCopy | VfioMigrationFlags.P2P)]
    internal void A_device_s_state_travels_in_the_sections_that_qemu_writes(int size, VfioMigrationFlags flags)
    {
        using FakeVfioDriver a = new(flags, States.RandomBytes(size)), b = new(flags);
        byte[] stream = Send(a);
        Assert.Equal(VfioState.Stop, a.Now);
        var result = Load(b, stream);
        Assert.Empty(result.Warnings);
        Assert.Equal(a.State, b.State);
        Assert.Equal((VfioState.Running, 0), (b.Now, b.Resets));
    }

    [Fact]
    public void A_config_state_with_a_configuration_space_is_read_to_its_end_mark_and_not_beyond()
    {
        byte[] space = States.RandomBytes(256);
        byte[] config = PciConfigState.Build(space);
        Assert.True(config.Length > 300);
        byte[] stream = Foreign(w => w.WriteSetup(), w =>
        {
            w.WriteData([1, 2, 3]);
            w.Write(VfioMarker.EndOfState);
        }, w => w.WriteConfig(config));
        using var b = new FakeVfioDriver(StopCopy) { ConfigSpace = space };
        Load(b, stream);
        Assert.Equal([1, 2, 3], b.State);

        byte[] foreign = [.. space];
        foreign[2] ^= 1;
        using var other = new FakeVfioDriver(StopCopy) { ConfigSpace = foreign };
        var failure = Assert.Throws<SaveVmException>(() => Load(other, stream));
        Assert.Equal(VfioError.WrongDevice, Assert.IsType<VfioException>(failure.InnerException).Reason);
    }

    [Fact]
    public void Without_channels_the_bodies_are_markers_data_blocks_and_a_config_state()
    {
        using var a = new FakeVfioDriver(StopCopy, [1, 2, 3]);
        byte[] stream = Send(a);
        ulong[] setup = [0xffffffffef100003, 0xffffffffef100001];
        ulong[] data = [0xffffffffef100004, 3];
        ulong[] full = [0xffffffffef100002, 0xffffffffef100001];
        int at = stream.AsSpan().IndexOf(Words(setup));
        Assert.True(at > 0);
        at = stream.AsSpan().IndexOf((byte[])[.. Words(data), 1, 2, 3, .. Words(0xffffffffef100001), 0x7e]);
        Assert.True(at > 0);
        Assert.True(stream.AsSpan().IndexOf((byte[])[.. Words(full), 0x7e]) > at);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void With_channels_the_state_travels_in_packets(int channels)
    {
        using FakeVfioDriver a = new(StopCopy, States.RandomBytes(9_000_000)), b = new(StopCopy);
        using FakeVfioDriver c = new(StopCopy, States.RandomBytes(1)), d = new(StopCopy);
        var pair = Pair(channels, channels, (a, b), (c, d));
        pair.Succeed();
        Assert.Equal(a.State, b.State);
        Assert.Equal(c.State, d.State);
        Assert.Equal((VfioState.Stop, VfioState.Running), (a.Now, b.Now));
        Assert.Equal(9 + 1 + 2, pair.SourceResult!.ChannelPackets);
        Assert.False(pair.SourceResult.Confirmed);
        Assert.Contains("query-migrate", Assert.Single(pair.SourceResult.Warnings));
        Assert.True(pair.SourceResult.Bytes < 10_000);
    }

    [Fact]
    public void A_migration_that_fails_lets_the_source_s_device_run_and_resets_the_target_s()
    {
        using FakeVfioDriver a = new(StopCopy, States.RandomBytes(1000)), b = new(StopCopy);
        var pair = Pair(2, 2, (a, b));
        pair.Target.Register("other", 0, 1, new ScriptedDevice("other", pair.Log, ScriptedDevice.Whole)
            .On(SaveVmHandler.LoadState, (_, _) => throw new InvalidDataException("no")));
        pair.Source.Register("other", 0, 1, new ScriptedDevice("other", pair.Log, ScriptedDevice.Whole));
        pair.Run();
        Assert.NotNull(pair.SourceFailure);
        Assert.NotNull(pair.TargetFailure);
        Assert.Equal(VfioState.Running, a.Now);
        Assert.Equal(1, b.Resets);
    }

    [Fact]
    public void A_device_that_cannot_migrate_refuses_before_anything_is_sent()
    {
        using var a = new FakeVfioDriver(0);
        var failure = Assert.Throws<SaveVmException>(() => Send(a));
        Assert.Equal(VfioError.NotMigratable, Assert.IsType<VfioException>(failure.InnerException).Reason);
        Assert.Equal(VfioState.Running, a.Now);
    }

    [Fact]
    public void A_device_that_does_not_take_the_state_fails_the_migration()
    {
        using FakeVfioDriver a = new(StopCopy, [1, 2, 3]), b = new(StopCopy) { Refuses = VfioState.Stop };
        byte[] stream = Send(a);
        b.Now = VfioState.Stop;
        var failure = Assert.Throws<SaveVmException>(() => Load(b, stream));
        Assert.Equal(VfioError.TransitionFailed, Assert.IsType<VfioException>(failure.InnerException).Reason);
        Assert.Equal(1, b.Resets);
    }

    [Fact]
    public void A_stream_that_is_cut_resets_the_device()
    {
        using var a = new FakeVfioDriver(StopCopy, States.RandomBytes(10_000));
        byte[] stream = Send(a);
        foreach (int length in new[] { 60, 100, 5000, stream.AsSpan().LastIndexOf("{\"page_size\""u8) - 20 })
        {
            using var b = new FakeVfioDriver(StopCopy);
            var failure = Assert.Throws<StreamException>(() => Load(b, stream[..length]));
            Assert.Equal(StreamError.Truncated, failure.Reason);
            Assert.True(b.Resets == (b.Entered.Contains(VfioState.Resuming) ? 1 : 0));
            Assert.Equal(VfioState.Running, b.Now);
        }
    }

    [Fact]
    public void State_that_went_over_channels_is_missed_by_a_target_without_channels()
    {
        using var b = new FakeVfioDriver(StopCopy);
        byte[] stream = Foreign(w => w.WriteSetup(), w => w.Write(VfioMarker.EndOfState), w => w.Write(VfioMarker.EndOfState));
        var failure = Assert.Throws<SaveVmException>(() => Load(b, stream));
        Assert.Equal(StreamError.MissingConfig, Assert.IsType<StreamException>(failure.InnerException).Reason);
        Assert.Equal(1, b.Resets);
    }

    [Fact]
    public void A_section_of_something_else_is_refused_at_its_marker()
    {
        using var b = new FakeVfioDriver(StopCopy);
        byte[] stream = Foreign(w => w.Write((VfioMarker)0x1234), w => { }, w => { });
        var failure = Assert.Throws<SaveVmException>(() => Load(b, stream));
        Assert.Equal(StreamError.InvalidMarker, Assert.IsType<StreamException>(failure.InnerException).Reason);
    }

    [Fact]
    public void Packets_that_do_not_fit_together_fail_by_name()
    {
        using var b = new FakeVfioDriver(StopCopy);
        var pair = new MultifdPair { SourceChannels = 1, TargetChannels = 1 };
        pair.Source.Register("v/vfio", 0, 1, new PacketSender([(0, false), (2, true)]));
        pair.Target.Register("v/vfio", 0, 1, new VfioSectionDevice(() => b));
        pair.Run();
        var failure = Assert.IsType<SaveVmException>(pair.TargetFailure);
        Assert.Equal(StreamError.MissingPacket, Assert.IsType<StreamException>(failure.InnerException).Reason);
        Assert.Contains("packet 1 is missing", failure.Message, StringComparison.Ordinal);
        Assert.Equal(1, b.Resets);
    }

    private static MultifdPair Pair(int source, int target, params (FakeVfioDriver Source, FakeVfioDriver Target)[] devices)
    {
        var pair = new MultifdPair { SourceChannels = source, TargetChannels = target };
        for (int i = 0; i < devices.Length; i++)
        {
            var (from, to) = devices[i];
            pair.Source.Register($"v{i}/vfio", 0, 1, new VfioSectionDevice(() => from));
            pair.Target.Register($"v{i}/vfio", 0, 1, new VfioSectionDevice(() => to));
        }

        return pair;
    }

    private static byte[] Send(FakeVfioDriver driver) => Send(new VfioSectionDevice(() => driver));

    private static byte[] Send(ISaveVmHandlers device)
    {
        using var stream = new MemoryStream();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        new SaveVmSource(Migrations.Registry(("v/vfio", device)), new SaveVmSourceOptions { DowntimeLimit = TimeSpan.FromSeconds(60) }).Run(_ => stream, scope);
        return stream.ToArray();
    }

    private static MigrationStreamTransfer Load(FakeVfioDriver driver, byte[] stream)
        => BrokenConnectionTests.Load(Migrations.Registry(("v/vfio", new VfioSectionDevice(() => driver))), stream);

    private static byte[] Foreign(Action<MarkerWriter> start, Action<MarkerWriter> end, Action<MarkerWriter> full)
        => Send(new ForeignSource(start, end, full));

    private static byte[] Words(params ulong[] words)
    {
        byte[] bytes = new byte[8 * words.Length];
        for (int i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(8 * i), words[i]);
        }

        return bytes;
    }

    private sealed class ForeignSource(Action<MarkerWriter> start, Action<MarkerWriter> end, Action<MarkerWriter> full) : ISaveVmHandlers
    {
        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => start(new MarkerWriter(stream));

        public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => end(new MarkerWriter(stream));

        public void SaveState(SaveVmSaveStream stream, SaveVmContext context) => full(new MarkerWriter(stream));
    }

    private sealed class PacketSender((uint Index, bool IsConfig)[] packets) : ISaveVmHandlers
    {
        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => new MarkerWriter(stream).WriteSetup();

        public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => new MarkerWriter(stream).Write(VfioMarker.EndOfState);

        public void SaveLiveCompletePrecopyThread(Action<ReadOnlyMemory<byte>> send, SaveVmContext context)
        {
            foreach (var (index, isConfig) in packets)
            {
                byte[] packet = [.. new byte[VfioPacketHeader.Size], .. isConfig ? ConfigState.Empty() : [1, 2, 3]];
                VfioPacketHeader.For(index, isConfig).Write(packet);
                send(packet);
            }
        }

        public void SaveState(SaveVmSaveStream stream, SaveVmContext context) => new MarkerWriter(stream).Write(VfioMarker.EndOfState);
    }
}
