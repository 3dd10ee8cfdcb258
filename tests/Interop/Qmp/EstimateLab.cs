using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Module.Tests;

namespace MigrationOps.Interop.Tests.Qmp;

/// <summary>One combination of what decides a migration's course. Mebibytes, and mebibytes per second.</summary>
/// <param name="Region">How much the guest writes round and round.</param>
/// <param name="Rate">How fast.</param>
/// <param name="Link">What the link carries.</param>
/// <param name="MaxBandwidth">QEMU's own limit; 0 for none.</param>
/// <param name="Limit">The downtime limit in milliseconds.</param>
internal sealed record EstimatePoint(int Region, double Rate, int Link, int MaxBandwidth, int Limit)
{
    /// <summary>Memory that is not zero.</summary>
    internal int Filled { get; init; } = 240;
}

/// <summary>What was foretold and what came. A migration that was given up has no times.</summary>
internal sealed record EstimateOutcome(EstimatePoint Point, QemuMigrationEstimate Estimate, bool Ended, TimeSpan Duration, TimeSpan Downtime, QemuMigrationStatus Last)
{
    internal double DurationError => Estimate.Duration is { } foretold ? (foretold / Duration) - 1 : double.NaN;

    internal double DowntimeError => Estimate.Downtime is { } foretold ? (foretold / Downtime) - 1 : double.NaN;

    public override string ToString()
    {
        string given = string.Create(CultureInfo.InvariantCulture, $"{Point.Region} MiB | {Point.Rate:0} MiB/s | {Point.Link} MiB/s | {(Point.MaxBandwidth == 0 ? "-" : $"{Point.MaxBandwidth} MiB/s")} | {Point.Limit} ms | {(Estimate.Converges is { } word ? word ? "yes" : "no" : "open")}");
        return Ended ? string.Create(CultureInfo.InvariantCulture, $"| {given} | ends | {Estimate.Duration?.TotalSeconds:0.0} s, {Duration.TotalSeconds:0.0} s, {DurationError:+0 %;-0 %} | {Estimate.Downtime?.TotalMilliseconds:0} ms, {Downtime.TotalMilliseconds:0} ms, {DowntimeError:+0 %;-0 %} |")
            : $"| {given} | does not end, pass {Last.Pass} | | |";
    }
}

/// <summary>
/// Two real QEMUs, a guest that writes its memory at a rate, and a slow link between them: the kernel's own shaper in a network namespace,
/// which is exact, or a relay, which a busy machine makes slower.
/// </summary>
internal static class EstimateLab
{
    private const int Memory = 256;

    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(180);
    private static readonly Lazy<Task<double>> TicksPerSecond = new(MeasureTicksAsync);

    /// <summary>Measures the guest, foretells its migration, and migrates it.</summary>
    /// <param name="point">The combination.</param>
    /// <param name="program">Which QEMU.</param>
    /// <param name="windows">Over which the dirty rate is measured.</param>
    /// <param name="giveUp">In which pass a migration is given up that is not foretold to end.</param>
    /// <param name="network">The link; null for a relay.</param>
    internal static async Task<EstimateOutcome> RunAsync(EstimatePoint point, string program, TimeSpan[] windows, int giveUp, ShapedNamespace? network = null)
    {
        using var folder = new TestFolder();
        long ticks = (long)(await TicksPerSecond.Value * 4096 / (point.Rate * (1 << 20)));
        DirtyingFirmware.Write(folder.File("rom"), point.Filled << 20, point.Region << 20, ticks);
        // It ends when the two have ended.
        using var relay = network is null ? new ShapedRelay((long)point.Link << 20, () => Connect(folder.File("in")), folder.File("link")) : null;
        await using var target = await StartAsync(program, folder, network, "-incoming", "defer");
        await using var source = await StartAsync(program, folder, network);
        await UntilFilledAsync(source);
        var profile = await DirtyRateMeasurement.MeasureAsync(source.Monitor, null, windows, DirtyRateMode.PageSampling, DirtyRateMeasurement.MostSamples);
        var estimate = MigrationEstimator.Estimate(new MigrationEstimateInput
        {
            RamBytes = (long)Memory << 20,
            UsedBytes = (long)point.Filled << 20,
            DirtyRate = profile,
            MaxBandwidth = (long)point.MaxBandwidth << 20,
            LinkBandwidth = (long)point.Link << 20,
            BufferedBytes = network is null ? 256 << 10 : 2_800_000,
            DowntimeLimit = TimeSpan.FromMilliseconds(point.Limit),
        });

        foreach (var qemu in new[] { source, target })
        {
            await qemu.Monitor.ExecuteAsync("migrate-set-capabilities", new JsonObject
            {
                ["capabilities"] = new JsonArray(new JsonObject { ["capability"] = "events", ["state"] = true }, new JsonObject { ["capability"] = "return-path", ["state"] = true }),
            });
        }

        await source.Monitor.ExecuteAsync("migrate-set-parameters", new JsonObject { ["max-bandwidth"] = point.MaxBandwidth == 0 ? 1L << 40 : (long)point.MaxBandwidth << 20, ["downtime-limit"] = point.Limit });
        network?.Shape((long)point.Link << 20);
        string listens = network is null ? $"unix:{folder.File("in")}" : "tcp:127.0.0.1:4444";
        await target.Monitor.ExecuteAsync("migrate-incoming", new JsonObject { ["uri"] = listens });
        await source.Monitor.ExecuteAsync("migrate", new JsonObject { ["uri"] = relay?.Uri ?? listens });
        var end = (await source.Monitor.WaitForEventAsync(received => (received.Event.Name == "MIGRATION" && received.Event.Data.Text("status") is "completed" or "failed")
            || (estimate.Converges != true && received.Event.Data.Number("pass") == giveUp), 0, Patience)).Event;
        var last = await new MigrationWatch(source.Monitor, null).SampleAsync(CancellationToken.None);
        if (end.Name == "MIGRATION_PASS")
        {
            await source.Monitor.ExecuteAsync("migrate_cancel");
            return new EstimateOutcome(point, estimate, false, default, default, last);
        }

        Assert.True(last.Phase == QemuMigrationPhase.Completed, last.Error ?? last.ToString());
        var stop = await source.Monitor.WaitForEventAsync(received => received.Event.Name == "STOP", 0, Patience);
        var resume = await target.Monitor.WaitForEventAsync(received => received.Event.Name == "RESUME", 0, Patience);
        return new EstimateOutcome(point, estimate, true, last.TotalTime!.Value, resume.Event.Time!.Value - stop.Event.Time!.Value, last);
    }

    private static Task<Engine.Qmp.QemuProcess> StartAsync(string program, TestFolder folder, ShapedNamespace? network, params string[] more) => Engine.Qmp.QemuProcess.StartAsync(new QemuProcessOptions
    {
        Program = network is null ? Peers.Require(program) : "ip",
        Arguments = [.. network is null ? [] : new[] { "netns", "exec", network.Name, Peers.Require(program) }, "-M", "q35", "-accel", QemuProcess.Accelerator, "-m", Memory.ToString(CultureInfo.InvariantCulture), "-bios", folder.File("rom"), "-nodefaults", "-display", "none", .. more],
    });

    private static async Task UntilFilledAsync(Engine.Qmp.QemuProcess qemu)
    {
        var clock = Stopwatch.StartNew();
        while (!await DirtyingFirmware.HasFilledAsync(qemu.Monitor))
        {
            Assert.True(clock.Elapsed < Patience, qemu.Output);
            await Task.Delay(Look);
        }
    }

    private static async Task<double> MeasureTicksAsync()
    {
        using var folder = new TestFolder();
        DirtyingFirmware.Write(folder.File("rom"), 1 << 20, 1 << 20, long.MaxValue >> 2);
        await using var qemu = await StartAsync("qemu-system-x86_64", folder, null);
        await UntilFilledAsync(qemu);
        ulong first = await DirtyingFirmware.ReadTicksAsync(qemu.Monitor);
        long start = Stopwatch.GetTimestamp();
        await Task.Delay(TimeSpan.FromSeconds(0.5));
        ulong second = await DirtyingFirmware.ReadTicksAsync(qemu.Monitor);
        return (second - first) / Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static Socket Connect(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(path));
        return socket;
    }
}
