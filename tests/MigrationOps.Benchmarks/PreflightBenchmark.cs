using System.Diagnostics;
using System.Globalization;
using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Benchmarks;

/// <summary>The pre-flight of a VM with 30 devices, both sides on this host.</summary>
internal sealed class PreflightBenchmark : TransferBenchmark
{
    private const int Devices = 30;

    // What both programs can load was asked before: it is kept by their build.
    private const int Unmeasured = 2;
    private const int Measured = 10;

    internal override string Name => "preflight";

    internal override string Description => $"the pre-flight of a VM with {Devices} devices, both QEMUs on this host";

    internal override void Run(BenchmarkReport report) => RunAsync(report).GetAwaiter().GetResult();

    private static async Task RunAsync(BenchmarkReport report)
    {
        string[] arguments = ["-M", "q35", "-accel", "tcg", "-m", "64", "-display", "none", "-nodefaults",
            .. Enumerable.Range(0, Devices / 2).SelectMany(i => new[]
            {
                "-device", string.Create(CultureInfo.InvariantCulture, $"pcie-root-port,id=r{i},chassis={i + 1},slot={i + 1}"),
                "-device", string.Create(CultureInfo.InvariantCulture, $"virtio-net-pci,bus=r{i}"),
            })];
        await using var source = await QemuProcess.StartAsync(new QemuProcessOptions { Program = "qemu-system-x86_64", Arguments = [.. arguments, "-S"] });
        await using var target = await QemuProcess.StartAsync(new QemuProcessOptions { Program = "qemu-system-x86_64", Arguments = [.. arguments, "-incoming", "defer"] });
        var times = new List<double>();
        for (int i = 0; i < Unmeasured + Measured; i++)
        {
            long start = Stopwatch.GetTimestamp();
            var result = await PreflightRun.TestAsync(source.Monitor, () => Task.FromResult(target.Monitor), null, new PreflightOptions(), CancellationToken.None);
            times.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
            if (!result.CanMigrate)
            {
                throw new InvalidOperationException(result.ToString());
            }
        }

        report.Figure($"{Devices} devices, median of {Measured}", BenchmarkReport.Median(times.Skip(Unmeasured)), "s", 1.5);
    }
}
