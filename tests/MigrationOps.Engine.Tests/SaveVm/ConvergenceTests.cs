using System.Diagnostics;
using FsCheck.Fluent;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.SaveVm;

public class ConvergenceTests
{
    [Fact]
    public void A_device_that_changes_slower_than_the_bandwidth_converges_within_its_downtime()
    {
        var device = new DirtyingDevice(2 << 20, bytesPerSecond: 1_000_000);
        var rounds = new List<MigrationRound>();
        var (result, _) = Send(device, new SaveVmSourceOptions
        {
            MaxBandwidth = 10_000_000,
            DowntimeLimit = TimeSpan.FromMilliseconds(5),
            Turn = TimeSpan.FromMilliseconds(10),
            OnRound = rounds.Add,
        });
        Assert.True(result.Rounds >= 2, $"{result.Rounds}");
        Assert.Equal(result.Rounds, rounds.Count);
        Assert.True(rounds[^1] is { Exact: true } last && last.MustPrecopy <= last.Threshold, rounds[^1].ToString());
        Assert.All(rounds, r => Assert.InRange(r.Bandwidth, 1, 10_000_000));
        Assert.All(rounds, r => Assert.Equal((long)(r.Bandwidth * 0.005), r.Threshold));
        Assert.Equal(Enumerable.Range(1, rounds.Count), rounds.Select(r => r.Round));
        Assert.Equal(device.Written, device.Taken);
    }

    public static TheoryData<long, long, long, long> Extremes { get; } = new()
    {
        { long.MaxValue, 0, long.MaxValue, 0 },
        { long.MaxValue, 0, 2, 0 },
        { long.MaxValue, long.MaxValue, 2, 0 },
        { 0, long.MaxValue, 0, long.MaxValue },
        { 1L << 62, 1L << 62, 1L << 62, 1L << 62 },
    };

    [Theory]
    [MemberData(nameof(Extremes))]
    public void No_number_that_devices_report_wraps_around_into_convergence(long must, long late, long otherMust, long otherLate)
    {
        var sum = new PendingBytes(must, late) { SwitchoverAcks = int.MaxValue }.Add(new PendingBytes(otherMust, otherLate) { SwitchoverAcks = 1 });
        Assert.Equal(long.MaxValue, sum.Total);
        Assert.True(sum.MustPrecopy >= must && sum.CanPostcopy >= late && sum.SwitchoverAcks == int.MaxValue, sum.ToString());

        // The longest downtime and any bandwidth make the largest threshold that there is.
        var pair = new MigrationPair { SourceOptions = new SaveVmSourceOptions { DowntimeLimit = TimeSpan.FromDays(10_000), MaxRounds = 1 } };
        foreach (var (name, pending) in new[] { ("a", new PendingBytes(must, late)), ("b", new PendingBytes(otherMust, otherLate)) })
        {
            pair.Source.Register(name, -1, 1, new ScriptedDevice(name, pair.Log, ScriptedDevice.Live) { Estimate = () => pending, Exact = () => pending });
            pair.Target.Register(name, -1, 1, new ScriptedDevice(name, pair.Log, ScriptedDevice.Live));
        }

        pair.Run();
        Assert.Equal(SaveVmError.DidNotConverge, Assert.IsType<SaveVmException>(pair.SourceFailure).Reason);
    }

    [Fact]
    public void The_bandwidth_limit_holds_while_the_device_runs()
    {
        var device = new DirtyingDevice(1 << 20, 0);
        var clock = Stopwatch.StartNew();
        Send(device, new SaveVmSourceOptions { MaxBandwidth = 4 << 20, DowntimeLimit = TimeSpan.Zero, Turn = TimeSpan.FromMilliseconds(10) });
        Assert.InRange(clock.Elapsed.TotalSeconds, 0.1, 40);
    }

    [Fact]
    public void A_device_that_changes_faster_is_given_up_after_the_allowed_rounds_with_the_reason()
    {
        // Not much faster: a round lasts as long as what was pending at its start, and a pause of the machine adds to that.
        var device = new DirtyingDevice(100_000, bytesPerSecond: 3_000_000);
        var failure = Assert.Throws<SaveVmException>(() => Send(device, new SaveVmSourceOptions
        {
            MaxBandwidth = 1_000_000,
            DowntimeLimit = TimeSpan.FromMilliseconds(1),
            Turn = TimeSpan.FromMilliseconds(5),
            MaxRounds = 2,
        }));
        Assert.Equal(SaveVmError.DidNotConverge, failure.Reason);
        Assert.Matches(@"after 2 rounds: [\d,]+ bytes are pending, and [\d,]+ fit into a downtime of 1 ms at the measured [\d,]+ bytes/s", failure.Message);
        Assert.False(device.Stopped);
        Assert.Equal(1, device.Cleanups);
    }

    [Fact]
    public void A_device_that_changes_faster_is_given_up_after_the_allowed_time()
    {
        var device = new DirtyingDevice(100_000, bytesPerSecond: 50_000_000);
        var clock = Stopwatch.StartNew();
        var failure = Assert.Throws<SaveVmException>(() => Send(device, new SaveVmSourceOptions
        {
            MaxBandwidth = 1_000_000,
            DowntimeLimit = TimeSpan.FromMilliseconds(1),
            Turn = TimeSpan.FromMilliseconds(5),
            MaxDuration = TimeSpan.FromMilliseconds(150),
        }));
        Assert.Equal(SaveVmError.DidNotConverge, failure.Reason);
        Assert.InRange(clock.Elapsed.TotalSeconds, 0.1, 40);
    }

    [Fact]
    public void A_cancellation_while_the_bandwidth_rests_ends_at_once()
    {
        using var cancel = new CancellationTokenSource();
        var device = new DirtyingDevice(1 << 20, 0);
        var clock = Stopwatch.StartNew();
        Assert.ThrowsAny<OperationCanceledException>(() => Send(device, new SaveVmSourceOptions
        {
            // One turn sends 10,000 bytes and rests for a hundred seconds.
            MaxBandwidth = 100,
            Turn = TimeSpan.FromSeconds(100),
            OnProgress = (_, _) => Assert.Fail("The turn has ended."),
        }, afterFirstWrite: cancel.Cancel, cancel.Token));
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(40), $"{clock.Elapsed}");
        Assert.Equal(1, device.Cleanups);
    }

    [Fact]
    public void A_device_with_nothing_to_iterate_completes_at_once_if_it_fits_the_assumed_bandwidth()
    {
        var log = new CallLog();
        var device = new ScriptedDevice("d", log, SaveVmHandler.SaveSetup | SaveVmHandler.StatePendingEstimate | SaveVmHandler.SaveLiveCompletePrecopy);
        var (result, _) = Send(device, new SaveVmSourceOptions { Turn = TimeSpan.FromMilliseconds(5) });
        Assert.Equal(1, log.Count("d.SaveLiveCompletePrecopy"));
        Assert.InRange(result.Rounds, 0, 1);
    }

    [Fact]
    public void Any_schedule_of_devices_arrives_whole()
    {
        var device = from state in Gen.Choose(0, 255).Select(i => (byte)i).ArrayOf()
                     from piece in Gen.Choose(1, 50)
                     from live in Gen.Elements(true, false)
                     from priority in Gen.Choose(-1, 1)
                     select (state, piece, live, priority);
        var schedule = from devices in device.ListOf()
                       from downtime in Gen.Choose(0, 10)
                       from limited in Gen.Elements(true, false)
                       select (devices, downtime, limited);
        Property.Holds(schedule, s =>
        {
            var (source, target) = (new SaveVmRegistry(), new SaveVmRegistry());
            var log = new CallLog();
            var pairs = s.devices.Select((d, i) =>
            {
                var offered = d.live ? ScriptedDevice.Live : ScriptedDevice.Whole;
                var from = new ScriptedDevice($"d{i}", log, offered) { State = d.state, Piece = d.piece };
                var to = new ScriptedDevice($"d{i}", log, offered);
                source.Register("same", -1, i, from, d.priority);
                target.Register("same", -1, i, to);
                return (From: from, To: to);
            }).ToList();
            var (result, stream) = Send(source, new SaveVmSourceOptions
            {
                DowntimeLimit = TimeSpan.FromMicroseconds(s.downtime),
                MaxBandwidth = s.limited ? 1_000_000 : null,
                Turn = TimeSpan.FromMilliseconds(1),
            });
            var received = BrokenConnectionTests.Load(target, stream);
            return pairs.All(p => p.To.Loaded.SequenceEqual(p.From.State))
                && result.Sections == received.Sections && result.Bytes == stream.Length && received.Warnings.Length == 0
                && log.Calls.Count(c => c.EndsWith("Cleanup", StringComparison.Ordinal)) == 2 * pairs.Count;
        }, tries: 60);
    }

    private static (MigrationStreamTransfer Result, byte[] Stream) Send(
        ISaveVmHandlers device, SaveVmSourceOptions options, Action? afterFirstWrite = null, CancellationToken cancellationToken = default)
        => Send(Migrations.Registry(("d", device)), options with { StopDevice = () => (device as DirtyingDevice)?.Stop() }, afterFirstWrite, cancellationToken);

    private static (MigrationStreamTransfer Result, byte[] Stream) Send(
        SaveVmRegistry registry, SaveVmSourceOptions options, Action? afterFirstWrite = null, CancellationToken cancellationToken = default)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), cancellationToken);
        using var output = new NoticingStream(afterFirstWrite);
        var result = new SaveVmSource(registry, options).Run(_ => output, scope);
        return (result, output.ToArray());
    }

    private sealed class NoticingStream(Action? afterFirstWrite) : MemoryStream
    {
        public override void Write(ReadOnlySpan<byte> buffer)
        {
            base.Write(buffer);
            afterFirstWrite?.Invoke();
        }
    }

    /// <summary>Changes a number of bytes per second of wall clock until it is stopped, and sends what is changed.</summary>
    private sealed class DirtyingDevice(long initial, long bytesPerSecond) : ISaveVmHandlers
    {
        private readonly long _start = Stopwatch.GetTimestamp();
        private long _stoppedAt;

        internal long Taken { get; private set; }

        internal bool Stopped => _stoppedAt != 0;

        internal int Cleanups { get; private set; }

        internal long Written => initial + (long)(Stopwatch.GetElapsedTime(_start, Stopped ? _stoppedAt : Stopwatch.GetTimestamp()).TotalSeconds * bytesPerSecond);

        internal void Stop() => _stoppedAt = Stopwatch.GetTimestamp();

        public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt64((ulong)initial);

        public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
        {
            while (!stream.BudgetExceeded && Written - Taken is > 0 and var left)
            {
                Take(stream, (int)Math.Min(Math.Min(left, 4096), stream.RemainingBudget));
            }

            return Written == Taken;
        }

        public PendingBytes StatePendingEstimate(SaveVmContext context) => new(Written - Taken);

        public PendingBytes StatePendingExact(SaveVmContext context) => new(Written - Taken);

        public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context)
        {
            while (Written - Taken is > 0 and var left)
            {
                Take(stream, (int)Math.Min(left, 65536));
            }
        }

        public void SaveCleanup(SaveVmContext context) => Cleanups++;

        private void Take(SaveVmSaveStream stream, int count)
        {
            stream.WriteBytes(new byte[count]);
            Taken += count;
        }
    }
}
