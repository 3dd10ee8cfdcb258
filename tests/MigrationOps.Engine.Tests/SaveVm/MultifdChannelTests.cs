using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.SaveVm;

public class MultifdChannelTests
{
    [Theory]
    [InlineData(1, false, false)]
    [InlineData(3, false, true)]
    [InlineData(3, true, true)]
    [InlineData(8, true, false)]
    public void Packets_of_several_devices_reach_the_right_one_over_channels_that_come_in_any_order(int channels, bool reverse, bool loadThread)
    {
        var pair = new MultifdPair
        {
            SourceChannels = channels,
            TargetChannels = channels,
            Order = reverse ? count => Enumerable.Range(0, count).Reverse() : null,
        };
        var (a, loadedA) = Add(pair, "a/vfio", 300, loading: loadThread ? PacketDevice.AwaitAll : null);
        var (b, loadedB) = Add(pair, "b/vfio", 5, size: 3 << 20, loading: PacketDevice.AwaitAll);
        pair.Succeed();
        Assert.Equal(a.State, loadedA.Loaded);
        Assert.Equal(b.State, loadedB.Loaded);
        Assert.Equal((channels, 305L), (pair.SourceResult!.MultifdChannels, pair.SourceResult.ChannelPackets));
        Assert.Equal((channels, 305L), (pair.TargetResult!.MultifdChannels, pair.TargetResult.ChannelPackets));
        Assert.Equal(pair.SourceResult.ChannelBytes, pair.TargetResult.ChannelBytes);
        Assert.Equal([], pair.TargetResult.Warnings);
    }

    [Fact]
    public void The_workers_end_before_the_first_full_section_and_the_load_threads_before_the_cleanups()
    {
        var pair = new MultifdPair();
        Add(pair, "a", 50, loading: PacketDevice.AwaitAll);
        pair.Succeed();
        string[] source = ["stop", "a.thread", "a.SaveState", "a.SaveCleanup"];
        string[] target = ["a.LoadSetup", "a.loaded", "a.LoadCleanup"];
        Assert.Equal(source, pair.Log.Calls.Where(source.Contains));
        Assert.Equal(target, pair.Log.Calls.Where(target.Contains));
    }

    [Fact]
    public void Without_channels_no_worker_is_started()
    {
        var pair = new MultifdPair { SourceChannels = 0, TargetChannels = 0 };
        Add(pair, "a", 5);
        pair.Succeed();
        Assert.DoesNotContain("a.thread", pair.Log.Calls);
        Assert.Equal(0, pair.SourceResult!.MultifdChannels);
    }

    [Fact]
    public void Without_a_return_path_everything_arrives_as_well()
    {
        var pair = new MultifdPair { ReturnPath = false };
        var (a, loaded) = Add(pair, "a", 100);
        pair.Succeed();
        Assert.Equal(a.State, loaded.Loaded);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Over_tls_every_channel_has_a_handshake_of_its_own(bool returnPath)
    {
        using var folder = new TestFolder();
        using var certificates = new TestCertificates();
        var pair = new MultifdPair { Tls = certificates.WriteBoth(folder["tls"]), ReturnPath = returnPath };
        var (a, loaded) = Add(pair, "a", 50, size: 100_000);
        pair.Succeed();
        Assert.Equal(a.State, loaded.Loaded);
    }

    [Fact]
    public void A_worker_that_fails_ends_the_migration_by_name_on_both_sides()
    {
        var pair = new MultifdPair();
        Add(pair, "a", 100, beforeSend: (i, _) => Fail(i == 7, "no data"));
        Add(pair, "b", 100, loading: PacketDevice.AwaitAll);
        pair.Run();
        var failure = Assert.IsType<SaveVmException>(pair.SourceFailure);
        Assert.Equal((SaveVmError.HandlerFailed, "a"), (failure.Reason, failure.Target));
        Assert.Contains("SaveLiveCompletePrecopyThread of section 1 (a)", failure.Message, StringComparison.Ordinal);
        Assert.Contains("no data", failure.Message, StringComparison.Ordinal);
        Assert.NotNull(pair.TargetFailure);
        AssertCleanedUp(pair);
    }

    [Fact]
    public void A_packet_that_a_device_refuses_ends_the_migration_with_the_channel_and_the_byte()
    {
        var pair = new MultifdPair();
        Add(pair, "a", 100, beforeTake: (i, _) => Fail(i == 40, "bad packet"));
        pair.Run();
        var failure = Assert.IsType<SaveVmException>(pair.TargetFailure);
        Assert.Equal(SaveVmError.HandlerFailed, failure.Reason);
        Assert.Matches(@"LoadStateBuffer of section 1 \(a\) failed at a packet of 1,004 bytes at byte [\d,]+ of channel [012]: bad packet", failure.Message);
        Assert.Equal(SaveVmError.TargetFailed, Assert.IsType<SaveVmException>(pair.SourceFailure).Reason);
        AssertCleanedUp(pair);
    }

    [Fact]
    public void A_load_thread_that_fails_ends_the_migration_by_name()
    {
        var pair = new MultifdPair();
        Add(pair, "a", 10, loading: (_, _, _) => throw new InvalidDataException("cannot load"));
        pair.Run();
        var failure = Assert.IsType<SaveVmException>(pair.TargetFailure);
        Assert.Equal(SaveVmError.HandlerFailed, failure.Reason);
        Assert.Contains("load thread of section 1 (a) failed: cannot load", failure.Message, StringComparison.Ordinal);
        Assert.NotNull(pair.SourceFailure);
        AssertCleanedUp(pair);
    }

    [Fact]
    public void A_load_thread_is_told_when_no_more_packets_come()
    {
        var pair = new MultifdPair();
        var log = pair.Log;
        pair.Device("a", new PacketDevice("a", log, 9), new PacketDevice("a", log, 10) { Loading = PacketDevice.AwaitAll });
        pair.Run();
        Assert.Contains("9000 bytes came", Assert.IsType<SaveVmException>(pair.TargetFailure).Message, StringComparison.Ordinal);
        Assert.Equal(SaveVmError.TargetFailed, Assert.IsType<SaveVmException>(pair.SourceFailure).Reason);
    }

    [Theory]
    [InlineData("worker")]
    [InlineData("buffer")]
    [InlineData("load thread")]
    public void A_handler_that_hangs_ends_the_migration_at_the_deadline(string where)
    {
        using var stuck = new ManualResetEventSlim();
        var (soon, late) = (TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(60));
        var pair = new MultifdPair { SourceTimeout = where == "worker" ? soon : late, TargetTimeout = where == "worker" ? late : soon };
        Add(pair, "a", 3,
            beforeSend: (_, _) => Hang(where == "worker"),
            beforeTake: (_, _) => Hang(where == "buffer"),
            loading: (device, context, token) =>
            {
                Hang(where == "load thread");
                PacketDevice.AwaitAll(device, context, token);
            });
        pair.Run();
        var failure = Assert.IsType<SaveVmException>(where == "worker" ? pair.SourceFailure : pair.TargetFailure);
        Assert.Equal(SaveVmError.HandlerTimeout, failure.Reason);
        Assert.Equal("a", failure.Target);
        AssertCleanedUp(pair);
        stuck.Set();

        void Hang(bool here)
        {
            if (here)
            {
                stuck.Wait(TimeSpan.FromSeconds(60));
            }
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Cancelling_either_side_ends_both_and_calls_the_cleanups(bool source)
    {
        using var cancel = new CancellationTokenSource();
        var pair = new MultifdPair
        {
            SourceCancellation = source ? cancel.Token : default,
            TargetCancellation = source ? default : cancel.Token,
        };
        Add(pair, "a", 100, loading: PacketDevice.AwaitAll,
            beforeSend: (i, context) =>
            {
                if (i == 50)
                {
                    cancel.Cancel();
                    Assert.True(context.CancellationToken.WaitHandle.WaitOne(TimeSpan.FromSeconds(60)));
                }
            });
        pair.Run();
        Assert.IsAssignableFrom<OperationCanceledException>(source ? pair.SourceFailure : pair.TargetFailure);
        Assert.NotNull(pair.SourceFailure);
        Assert.NotNull(pair.TargetFailure);
        AssertCleanedUp(pair);
    }

    [Fact]
    public void A_target_that_ends_while_a_worker_has_nothing_to_send_ends_the_source_at_once()
    {
        using var cancel = new CancellationTokenSource();
        bool ended = false;
        var pair = new MultifdPair { SourceTimeout = TimeSpan.FromSeconds(300), TargetCancellation = cancel.Token };
        Add(pair, "a", 2, loading: PacketDevice.AwaitAll,
            beforeSend: (i, context) =>
            {
                if (i == 0)
                {
                    // Nothing is on the channels, so that none of them can break.
                    cancel.Cancel();
                    ended = context.CancellationToken.WaitHandle.WaitOne(TimeSpan.FromSeconds(60));
                }
            });
        pair.Run();
        Assert.True(ended);
        Assert.Contains(Assert.IsType<SaveVmException>(pair.SourceFailure).Reason, new[] { SaveVmError.TargetFailed, SaveVmError.ConnectionLost });
        AssertCleanedUp(pair);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void In_postcopy_packets_arrive_before_the_device_runs_and_the_rest_over_the_main_connection(bool hasLoadThread)
    {
        var log = new CallLog();
        PacketDevice target = null!;
        bool wasWhole = false;
        var pair = new MultifdPair
        {
            SourceChannels = 2,
            TargetChannels = 2,
            SourceWith = options => options with { Postcopy = true, PostcopyAfter = 0, DowntimeLimit = TimeSpan.Zero },
            TargetWith = options => options with { Postcopy = true, StartDevice = () => wasWhole = target.Loaded.Length == target.State.Length },
        };
        (var source, target) = Add(pair, "a", 20, loading: hasLoadThread ? PacketDevice.AwaitAll : null);
        var late = new ScriptedDevice("late", log, ScriptedDevice.Late);
        var lateLoaded = new ScriptedDevice("late", log, ScriptedDevice.Late);
        pair.Source.Register("late", 0, 1, late);
        pair.Target.Register("late", 0, 1, lateLoaded);
        pair.Succeed();
        Assert.True(wasWhole);
        Assert.Equal(source.State, target.Loaded);
        Assert.Equal(late.State, lateLoaded.Loaded);
        Assert.True(pair.SourceResult!.Postcopy && pair.TargetResult!.Postcopy);
        Assert.Equal((20, 2), (pair.TargetResult.ChannelPackets, pair.TargetResult.MultifdChannels));
    }

    [Fact]
    public void A_target_that_waits_for_more_channels_says_how_many_came()
    {
        var pair = new MultifdPair { SourceChannels = 1, TargetChannels = 4, TargetTimeout = TimeSpan.FromSeconds(3) };
        Add(pair, "a", 5);
        pair.Run();
        var failure = Assert.IsType<MultifdException>(pair.TargetFailure);
        Assert.Equal(MultifdError.MissingChannel, failure.Reason);
        Assert.Contains("2 of 5 connections", failure.Message, StringComparison.Ordinal);
        Assert.NotNull(pair.SourceFailure);
    }

    [Fact]
    public void A_source_with_more_channels_than_the_target_fails()
    {
        var pair = new MultifdPair { SourceChannels = 3, TargetChannels = 1, SourceTimeout = TimeSpan.FromSeconds(3), TargetTimeout = TimeSpan.FromSeconds(2) };
        Add(pair, "a", 100);
        pair.Run();
        Assert.NotNull(pair.SourceFailure);
        Assert.Contains("resume", pair.Log.Calls);
    }

    [Theory]
    [InlineData(0)]
    [InlineData((16 << 20) + 1)]
    public void A_packet_of_no_legal_size_is_refused_where_it_is_sent(int size)
    {
        var pair = new MultifdPair();
        pair.Source.Register("a", 0, 1, new SizedSender(size));
        pair.Target.Register("a", 0, 1, new PacketDevice("a", pair.Log, 1));
        pair.Run();
        var failure = Assert.IsType<SaveVmException>(pair.SourceFailure);
        Assert.Equal(SaveVmError.HandlerFailed, failure.Reason);
        Assert.Contains("1 to 16,777,216 bytes", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_queue_lends_only_so_many_buffers_and_takes_them_back_from_the_channels()
    {
        using var cancel = new CancellationTokenSource();
        using var queue = new DevicePacketQueue(100, 2, 1, cancel.Token);
        byte[] first = queue.Rent(100), large = queue.Rent(1000);
        Assert.True(large.Length >= 1000 + DeviceStatePacket.Size);
        var third = Task.Run(() => queue.Rent(50), TestContext.Current.CancellationToken);
        queue.Put(first, DeviceStatePacket.Size + 100);
        queue.Put(large, DeviceStatePacket.Size + 1000);
        using var channel = new MemoryStream();
        var drained = Task.Run(() => queue.Drain(new ChannelInit(Guid.Empty, 0), channel), TestContext.Current.CancellationToken);
        Assert.Same(first, await third);
        await cancel.CancelAsync();
        await Assert.ThrowsAsync<OperationCanceledException>(() => drained);
    }

    private static (PacketDevice Source, PacketDevice Target) Add(MultifdPair pair, string name, int packets, int size = 1000,
        Action<uint, SaveVmContext>? beforeSend = null, Action<uint, SaveVmContext>? beforeTake = null,
        Action<PacketDevice, SaveVmContext, CancellationToken>? loading = null)
        => pair.Device(name,
            new PacketDevice(name, pair.Log, packets, size) { BeforeSend = beforeSend },
            new PacketDevice(name, pair.Log, packets, size) { BeforeTake = beforeTake, Loading = loading });

    private static void Fail(bool now, string why)
    {
        if (now)
        {
            throw new InvalidDataException(why);
        }
    }

    private static void AssertCleanedUp(MultifdPair pair)
    {
        foreach (var entry in pair.Source.Entries)
        {
            Assert.Equal(1, pair.Log.Count($"{entry}.SaveCleanup"));
            Assert.Equal(1, pair.Log.Count($"{entry}.LoadCleanup"));
        }

        Assert.Equal(1, pair.Log.Count("resume"));
    }

    private sealed class SizedSender(int size) : ISaveVmHandlers
    {
        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32(0);

        public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt32(0);

        public void SaveLiveCompletePrecopyThread(Action<ReadOnlyMemory<byte>> send, SaveVmContext context) => send(new byte[size]);
    }
}
