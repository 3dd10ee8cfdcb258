using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Tests.Qmp;

/// <summary>What is foretold of a migration, where it can be said by hand what must come out. Real ones: the interop tests.</summary>
public class MigrationEstimatorTests
{
    private const long MiB = 1 << 20, GiB = 1 << 30;

    [Fact]
    public void A_guest_that_writes_nothing_takes_one_pass_and_stands_still_for_what_is_left_of_it()
    {
        var estimate = Estimate(Profile(0, 1, 0));
        Assert.Equal((true, 3), (estimate.Converges, estimate.Passes));
        Assert.Equal(81.92, estimate.Duration!.Value.TotalSeconds, 1.0);
        Assert.InRange(estimate.Downtime!.Value.TotalMilliseconds, 200, 325);
        Assert.Equal(estimate.Downtime, estimate.RamDowntime + estimate.DeviceDowntime + estimate.CommitDowntime);
        Assert.Empty(estimate.Advice);
        Assert.Contains("converges in", estimate.ToString());
    }

    [Fact]
    public void Zeros_cost_next_to_nothing()
        => Assert.Equal(41.7, Estimate(Profile(0, 1, 0), input => input with { UsedBytes = 4 * GiB, RamBytes = 8 * GiB }).Duration!.Value.TotalSeconds, 1.5);

    [Fact]
    public void One_that_writes_faster_than_is_sent_does_not_converge_and_what_is_advised_would()
    {
        var estimate = Estimate(Profile(2 * GiB, 2, 0));
        Assert.False(estimate.Converges);
        Assert.Equal((null, null, null), (estimate.Passes, estimate.Duration, estimate.Downtime));
        Assert.Contains("postcopy", string.Join(' ', estimate.Advice));
        Assert.True(Estimate(Profile(2 * GiB, 2, 0), input => input with { DowntimeLimit = estimate.LowestDowntime!.Value * 1.02 }).Converges);
        Assert.True(Estimate(Profile(2 * GiB, 2, 0), input => input with { MaxBandwidth = (long)(estimate.BandwidthNeeded!.Value * 1.02), LinkBandwidth = null }).Converges);
        Assert.False(Estimate(Profile(2 * GiB, 2, 0), input => input with { DowntimeLimit = estimate.LowestDowntime!.Value * 0.9 }).Converges == true);
        Assert.False(Estimate(Profile(2 * GiB, 2, 0), input => input with { MaxBandwidth = (long)(estimate.BandwidthNeeded!.Value * 0.9), LinkBandwidth = null }).Converges == true);
    }

    [Fact]
    public void Between_the_two_is_a_border_that_is_called_so()
    {
        var words = Enumerable.Range(1, 60).Select(i => Estimate(Profile(0, 1, i * 3 * MiB)).Converges).ToArray();
        Assert.Equal([true, null, false], words.Where((word, i) => i == 0 || word != words[i - 1]));
        // 100 MiB/s are sent.
        Assert.Null(words[33]);
    }

    [Fact]
    public void Without_a_dirty_rate_nobody_can_say()
    {
        var estimate = Estimate(null);
        Assert.Equal((null, null, null), (estimate.Converges, estimate.Duration, estimate.LowestDowntime));
        Assert.Equal(81.92, estimate.ShortestDuration.TotalSeconds, 0.1);
        Assert.Contains("Measure the dirty rate", Assert.Single(estimate.Advice));
    }

    [Fact]
    public void Max_bandwidth_does_not_hold_for_the_memory_that_is_left()
    {
        var estimate = Estimate(Profile(0, 1, 0), input => input with { LinkBandwidth = 1000 * MiB });
        Assert.InRange(estimate.RamDowntime!.Value.TotalMilliseconds, 15, 30);
    }

    [Fact]
    public void A_vm_that_cannot_do_postcopy_is_not_advised_to()
        => Assert.DoesNotContain("postcopy", string.Join(' ', Estimate(Profile(2 * GiB, 2, 0), input => input with { CanPostcopy = false }).Advice));

    [Fact]
    public void A_small_sample_widens_the_border()
    {
        var exact = Profile(0, 1, 80 * MiB);
        Assert.True(Estimate(exact).Converges);
        Assert.Null(Estimate(exact with { SamplePages = 8 }).Converges);
    }

    [Fact]
    public void Whatever_is_given_an_answer_comes_and_no_time_is_below_zero()
    {
        var random = new Random(1);
        for (int i = 0; i < 300; i++)
        {
            long ram = 1 + (long)(Math.Pow(random.NextDouble(), 4) * (1L << 44));
            var estimate = MigrationEstimator.Estimate(new MigrationEstimateInput
            {
                RamBytes = ram,
                UsedBytes = random.Next(3) == 0 ? null : (long)(ram * random.NextDouble()),
                DirtyRate = Profile(ram * random.NextDouble() * random.Next(3), Math.Pow(10, random.Next(-8, 6)), random.Next(2) * random.NextDouble() * ram),
                MaxBandwidth = random.Next(2) == 0 ? 0 : random.NextInt64(1 << 30),
                LinkBandwidth = 1 + random.NextInt64(1L << 34),
                SwitchoverBandwidth = random.Next(2) * random.NextInt64(1L << 34),
                DowntimeLimit = TimeSpan.FromMilliseconds(random.Next(1, 2_000_000)),
                DeviceBytes = random.NextInt64(1 << 30),
                Queues = random.Next(100),
            });
            TimeSpan?[] times = [estimate.Duration, estimate.ShortestDuration, estimate.LongestDuration, estimate.Downtime, estimate.ShortestDowntime, estimate.LongestDowntime, estimate.RamDowntime, estimate.LowestDowntime];
            Assert.All(times, time => Assert.True(time is null || time >= TimeSpan.Zero, estimate.ToString()));
            Assert.True(estimate.Duration is null || (estimate.ShortestDuration <= estimate.Duration && (estimate.LongestDuration ?? TimeSpan.MaxValue) >= estimate.Duration), estimate.ToString());
            Assert.True(estimate.Downtime is null || (estimate.ShortestDowntime <= estimate.Downtime && estimate.LongestDowntime >= estimate.Downtime), estimate.ToString());
        }
    }

    private static QemuMigrationEstimate Estimate(DirtyRateProfile? profile, Func<MigrationEstimateInput, MigrationEstimateInput>? change = null)
    {
        var input = new MigrationEstimateInput { RamBytes = 8 * GiB, DirtyRate = profile, MaxBandwidth = 100 * MiB, DowntimeLimit = TimeSpan.FromSeconds(0.3) };
        return MigrationEstimator.Estimate(change?.Invoke(input) ?? input);
    }

    private static DirtyRateProfile Profile(double workingSet, double constant, double steady)
    {
        var curve = new DirtyRateCurve(workingSet, constant, steady, 0);
        return new DirtyRateProfile
        {
            VM = null,
            Monitor = "unix:/x",
            Mode = DirtyRateMode.DirtyBitmap,
            SamplePages = 0,
            MemoryBytes = null,
            Windows = [.. new[] { 0.2, 1, 5 }.Select(seconds => new DirtyRateWindow { Window = TimeSpan.FromSeconds(seconds), Bytes = (long)curve.BytesWithin(seconds), BytesPerSecond = (long)(curve.BytesWithin(seconds) / seconds) })],
            WorkingSetBytes = workingSet,
            TimeConstant = TimeSpan.FromSeconds(Math.Max(constant, 1e-7)),
            SteadyBytesPerSecond = steady,
            FitError = 0,
            TakenAt = DateTime.UnixEpoch,
        };
    }
}
