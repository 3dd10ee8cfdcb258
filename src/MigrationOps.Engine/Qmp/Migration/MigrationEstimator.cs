using System.Globalization;

namespace MigrationOps.Engine.Qmp;

/// <summary>What an estimate is made from. Bytes, and bytes per second.</summary>
internal sealed record MigrationEstimateInput
{
    /// <summary>All memory of the guest.</summary>
    internal required long RamBytes { get; init; }

    /// <summary>That which is not zero; null if it is not known: then all of it.</summary>
    internal long? UsedBytes { get; init; }

    /// <summary>What the guest writes; null if it was not measured: then it cannot be said whether the migration ends.</summary>
    internal DirtyRateProfile? DirtyRate { get; init; }

    /// <summary>QEMU's max-bandwidth; 0 for none.</summary>
    internal required long MaxBandwidth { get; init; }

    /// <summary>What the link carries; null if it is not known: then as much as max-bandwidth.</summary>
    internal long? LinkBandwidth { get; init; }

    /// <summary>QEMU's avail-switchover-bandwidth, which it takes instead of what it measures; 0 for none.</summary>
    internal long SwitchoverBandwidth { get; init; }

    /// <summary>QEMU's downtime-limit.</summary>
    internal required TimeSpan DowntimeLimit { get; init; }

    /// <summary>
    /// What waits in the source's socket when the guest stops, where the link is slower than QEMU may send; by default what Linux lets a
    /// TCP socket hold (measured: 2.7 MiB on links of 20 to 60 MiB/s).
    /// </summary>
    internal long BufferedBytes { get; init; } = 2_800_000;

    /// <summary>State of devices that is sent while the guest stands still.</summary>
    internal long DeviceBytes { get; init; }

    /// <summary>Queues of the VM's devices.</summary>
    internal int Queues { get; init; }

    /// <summary>What stopping, sending and loading the devices took at the last time; null if it is not known.</summary>
    internal TimeSpan? DeviceTime { get; init; }

    /// <summary>From one host to the other and back.</summary>
    internal TimeSpan RoundTrip { get; init; } = TimeSpan.FromMilliseconds(1);

    /// <summary>False if the VM cannot be moved by postcopy, as with VFIO devices.</summary>
    internal bool CanPostcopy { get; init; } = true;
}

/// <summary>
/// Foretells a migration by pre-copy from what was measured before it: a pure function. The range is what comes out when the dirty
/// rate and the bandwidth are at the ends of their own errors; what that decides is left open.
/// </summary>
internal static class MigrationEstimator
{
    // What the guest's next seconds differ from the measured ones, at least.
    private const double LeastError = 0.1;
    private const double MostError = 0.5;
    private const double BandwidthError = 0.05;
    private const int Phases = 8;
    private const double GiB = 1 << 30;

    // Measured with QEMU 7.2 to 11.1 between the source's STOP and the target's RESUME, without memory to send.
    private static readonly TimeSpan DeviceBase = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan DevicePerQueue = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan Setup = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan LongestLimit = TimeSpan.FromSeconds(2000);

    /// <summary>Makes the estimate.</summary>
    internal static QemuMigrationEstimate Estimate(MigrationEstimateInput input)
    {
        var link = Link.Of(input);
        double used = Math.Clamp(input.UsedBytes ?? input.RamBytes, 1, input.RamBytes);
        double devices = (input.DeviceTime ?? (DeviceBase + (input.Queues * DevicePerQueue))).TotalSeconds + (input.DeviceBytes / link.Final);
        double buffered = link.IsLimited ? 0 : Math.Min(input.BufferedBytes, used) / link.Final;
        double fixedTime = devices + buffered + input.RoundTrip.TotalSeconds;
        var first = new PassModel { RamBytes = input.RamBytes, UsedBytes = used, UsedAtEnd = 0, Curve = new DirtyRateCurve(0, 1, 0, 0), Bandwidth = link.Passes, Threshold = 0, Slice = link.Slice };
        var estimate = new QemuMigrationEstimate
        {
            Converges = null,
            Passes = null,
            BytesToSend = (long)used,
            Duration = null,
            ShortestDuration = Seconds(first.FirstPass) + Setup,
            LongestDuration = null,
            Downtime = null,
            ShortestDowntime = null,
            LongestDowntime = null,
            RamDowntime = null,
            DeviceDowntime = Seconds(devices),
            CommitDowntime = input.RoundTrip,
            LowestDowntime = null,
            BandwidthNeeded = null,
            Advice = ["Measure the dirty rate of the VM while it does its usual work, and estimate again."],
            RamBytes = input.RamBytes,
            UsedBytes = input.UsedBytes,
            BytesPerSecond = (long)link.Passes,
            DowntimeLimit = input.DowntimeLimit,
            DirtyBytesPerSecond = null,
        };
        return input.DirtyRate is { } profile ? Complete(estimate, input, new Measured(profile, input.RamBytes), used, link, buffered, fixedTime) : estimate;
    }

    private static QemuMigrationEstimate Complete(QemuMigrationEstimate estimate, MigrationEstimateInput input, Measured measured, double used, Link link, double buffered, double fixedTime)
    {
        var limit = input.DowntimeLimit;
        double share = used / input.RamBytes;
        var usual = Courses(input, used, share, measured.Curve(1), link, limit);
        var best = Courses(input, used, share < 1 ? 0 : 1, measured.Curve(1 - measured.Error), link.Times(1 + BandwidthError), limit);
        var worst = Courses(input, used, 1, measured.Curve(1 + measured.Error), link.Times(1 - BandwidthError), limit);
        PassCourse[] all = [.. usual, .. best, .. worst];
        bool every = all.All(course => course.Converges);
        bool none = !all.Any(course => course.Converges);
        bool? converges = every ? true : none ? false : null;
        bool Ends(TimeSpan withLimit, double withPasses) => Courses(input, used, 1, measured.Curve(1 + measured.Error), (link with { Passes = withPasses, Final = Math.Max(link.Final, withPasses) }).Times(1 - BandwidthError), withLimit)
            .All(course => course.Converges);
        estimate = estimate with
        {
            Converges = converges,
            DirtyBytesPerSecond = (long)measured.Curve(1).BytesWithin(1),
            LowestDowntime = Lowest(0.001, LongestLimit.TotalSeconds, seconds => Ends(Seconds(seconds), link.Passes)) is { } lowest ? Seconds(lowest) : null,
            BandwidthNeeded = Lowest(1 << 10, 1e13, rate => Ends(limit, rate)) is { } rate ? (long)rate : null,
        };
        if (usual.All(course => course.Converges))
        {
            double memory = usual.Average(course => course.Remaining) / link.Final;
            estimate = estimate with
            {
                Passes = (int)Math.Round(usual.Average(course => course.Passes)),
                BytesToSend = (long)usual.Average(course => course.Sent),
                Duration = Setup + Seconds(usual.Average(course => course.Seconds) + memory + fixedTime),
                Downtime = Seconds(memory + fixedTime),
                RamDowntime = Seconds(memory + buffered),
            };
        }

        var ending = all.Where(course => course.Converges).ToArray();
        if (ending.Length > 0)
        {
            estimate = estimate with
            {
                ShortestDuration = Setup + Seconds(ending.Min(course => course.Seconds + (course.Remaining / link.Final)) + fixedTime),
                LongestDuration = every ? Setup + Seconds(ending.Max(course => course.Seconds + (course.Remaining / link.Final)) + fixedTime) : null,
                ShortestDowntime = Seconds((ending.Min(course => course.Remaining) / link.Final) + (fixedTime / 2)),
                LongestDowntime = Seconds((ending.Max(course => course.Remaining) / link.Final) + (fixedTime * 2)),
            };
        }

        return estimate with { Advice = converges == true ? [] : Advise(estimate, input, link) };
    }

    private static PassCourse[] Courses(MigrationEstimateInput input, double used, double usedAtEnd, DirtyRateCurve curve, Link link, TimeSpan limit)
    {
        var model = new PassModel
        {
            RamBytes = input.RamBytes,
            UsedBytes = used,
            UsedAtEnd = usedAtEnd,
            Curve = curve,
            Bandwidth = link.Passes,
            Threshold = (input.SwitchoverBandwidth > 0 ? input.SwitchoverBandwidth : link.Passes) * limit.TotalSeconds,
            Slice = link.Slice,
        };
        return [.. Enumerable.Range(0, Phases).Select(i => model.Run((i + 0.5) / Phases))];
    }

    private static string[] Advise(QemuMigrationEstimate estimate, MigrationEstimateInput input, Link link)
    {
        var advice = new List<string>();
        if (estimate.LowestDowntime is { } lowest)
        {
            advice.Add(string.Create(CultureInfo.InvariantCulture, $"Allow a downtime of {Math.Ceiling(lowest.TotalMilliseconds):0} ms (downtime-limit)."));
        }

        if (estimate.BandwidthNeeded is { } needed)
        {
            string rate = string.Create(CultureInfo.InvariantCulture, $"{Math.Ceiling(needed / 1048576.0):0} MiB/s");
            advice.Add(input.LinkBandwidth is { } known && known < needed ? $"Use a link that carries {rate}, and allow as much (max-bandwidth)."
                : link.IsLimited ? $"Allow a bandwidth of {rate} (max-bandwidth)." : $"Give it a bandwidth of {rate}.");
        }

        if (input.CanPostcopy)
        {
            advice.Add("Switch to postcopy after the first pass: set postcopy-ram on both sides before the start.");
        }

        return [.. advice, "Slow the guest down while it is moved (auto-converge).", "Move it when it writes less."];
    }

    // The smallest value for which it holds, within one percent; null if it holds for none.
    private static double? Lowest(double low, double high, Func<double, bool> holds)
    {
        if (!holds(high))
        {
            return null;
        }

        while (high / low > 1.01)
        {
            double middle = Math.Sqrt(low * high);
            (low, high) = holds(middle) ? (low, middle) : (middle, high);
        }

        return high;
    }

    private static TimeSpan Seconds(double seconds) => TimeSpan.FromSeconds(Math.Min(seconds, TimeSpan.MaxValue.TotalSeconds / 2));

    /// <summary>What is sent per second while the guest runs, and when it has stopped: max-bandwidth does not hold then.</summary>
    private readonly record struct Link(double Passes, double Final, bool IsLimited)
    {
        // See PassModel.
        internal double Slice => IsLimited ? 0.1 : 0.05;

        internal static Link Of(MigrationEstimateInput input)
        {
            double limit = input.MaxBandwidth > 0 ? input.MaxBandwidth : double.PositiveInfinity;
            double carried = input.LinkBandwidth ?? limit;
            double passes = Math.Min(limit, carried);
            return double.IsFinite(passes) ? new Link(passes, carried, limit < carried || input.LinkBandwidth is null)
                : throw new ArgumentException("Neither max-bandwidth nor the link bounds the bandwidth.", nameof(input));
        }

        internal Link Times(double factor) => this with { Passes = Passes * factor, Final = Final * factor };
    }

    /// <summary>A dirty rate with its error.</summary>
    private sealed class Measured(DirtyRateProfile profile, long ram)
    {
        /// <summary>The part by which it may be wrong: of the curve, of the sample, of QEMU's rounding to mebibytes.</summary>
        internal double Error { get; } = Math.Clamp(ErrorOf(profile, ram), LeastError, MostError);

        internal DirtyRateCurve Curve(double factor)
            => new(profile.WorkingSetBytes * factor, Math.Max(profile.TimeConstant.TotalSeconds, 1e-6), profile.SteadyBytesPerSecond * factor, profile.FitError);

        private static double ErrorOf(DirtyRateProfile profile, long ram)
        {
            if (profile.Windows.MaxBy(window => window.Window) is not { Bytes: > 0 } longest)
            {
                return LeastError;
            }

            double part = Math.Min(1, (double)longest.Bytes / (profile.MemoryBytes ?? ram));
            double looked = profile.SamplePages * ((profile.MemoryBytes ?? ram) / GiB);
            double sample = profile.SamplePages > 0 ? Math.Sqrt((1 - part) / (part * Math.Max(1, looked))) : 0;
            double rounding = 0.5 * (1 << 20) / longest.BytesPerSecond;
            return Math.Sqrt((profile.FitError * profile.FitError) + (sample * sample) + (rounding * rounding));
        }
    }
}
