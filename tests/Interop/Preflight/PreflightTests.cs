using System.Text.Json.Nodes;
using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Qmp;
using MigrationOps.Truth.Preflight;
using Qemu = MigrationOps.Engine.Qmp.QemuProcess;

namespace MigrationOps.Interop.Tests.Preflight;

/// <summary>The pre-flight beside what real QEMUs then do; the long form is tests/Truth --preflight.</summary>
public sealed class PreflightTests
{
    // Of each sort of reason one, and what must not be refused.
    private static readonly string[] Kinds =
    [
        "nothing, many devices", "RAM size", "CPU feature", "PCI slot", "virtio-net vectors", "virtio-net feature", "serial port", "ROM bar", "target does not wait", "multifd at the source only", "disk path", "port in use",
        "migrated already",
    ];

    private static readonly string[] Questions = ["query-status", "query-migrate", "query-migrate-capabilities", "query-migrate-parameters", "query-block", "query-chardev", "query-pci", "x-query-ramblock"];

    [Fact]
    public Task What_is_said_before_is_what_the_migration_then_does()
        => HoldAsync(PairKinds.Short(Required("qemu-system-x86_64")).Where(pair => Kinds.Contains(pair.Kind)).ToList(), Kinds.Length);

    [Fact]
    public Task What_is_said_before_holds_between_versions()
    {
        string older = Required("qemu-system-x86_64-older"), newer = Required("qemu-system-x86_64-newer");
        return HoldAsync([.. PairKinds.Across().Where(pair => pair.Kind is "versions, many devices" or "versions, vectors").DistinctBy(pair => pair.Kind).SelectMany(pair => new[] { pair.On(older, newer), pair.On(newer, older) })], 4);
    }

    [Fact]
    public async Task It_changes_nothing_of_either_side()
    {
        string program = Peers.Require("qemu-system-x86_64");
        string[] arguments = ["-M", "q35", "-m", "32", "-nodefaults", "-display", "none", "-device", "virtio-net-pci", "-device", "qemu-xhci"];
        await using var source = await Qemu.StartAsync(new QemuProcessOptions { Program = program, Arguments = [.. arguments, "-S"] });
        await using var target = await Qemu.StartAsync(new QemuProcessOptions { Program = program, Arguments = [.. arguments, "-incoming", "defer"] });
        string[] before = [await PictureAsync(source), await PictureAsync(target)];
        var report = await PreflightRun.TestAsync(source.Monitor, () => Task.FromResult(target.Monitor), null, new PreflightOptions(), CancellationToken.None);
        Assert.True(report.CanMigrate, report.ToString());
        Assert.Equal(before[0], await PictureAsync(source));
        Assert.Equal(before[1], await PictureAsync(target));
    }

    // A monitor that refuses everything but questions answers all of them.
    [Fact]
    public async Task It_asks_nothing_that_a_read_only_monitor_refuses()
    {
        string program = Peers.Require("qemu-system-x86_64");
        var both = new List<QmpMonitor>();
        await using var source = await Qemu.StartAsync(new QemuProcessOptions { Program = program, Arguments = ["-M", "q35", "-m", "32", "-display", "none", "-S"] });
        await using var target = await Qemu.StartAsync(new QemuProcessOptions { Program = program, Arguments = ["-M", "q35", "-m", "32", "-display", "none", "-incoming", "defer", "-cpu", "max"] });
        foreach (var qemu in new[] { source, target })
        {
            await qemu.Monitor.DisposeAsync();
            both.Add(await QmpMonitor.ConnectAsync(new QmpMonitorOptions { Endpoint = new Engine.Wire.Endpoint.Unix(qemu.MonitorPath), ReadOnly = true }));
        }

        var report = await PreflightRun.TestAsync(both[0], () => Task.FromResult(both[1]), null, new PreflightOptions(), CancellationToken.None);
        Assert.Contains(report.Checks, check => check is { Name: "CpuModel", Status: QemuCheckStatus.Warning });
        foreach (var monitor in both)
        {
            await monitor.DisposeAsync();
        }
    }

    private static string Required(string program)
    {
        Peers.Require(program);
        return program;
    }

    private static async Task HoldAsync(List<PairKind> pairs, int expected)
    {
        Assert.Equal(expected, pairs.Count);
        var results = new List<PairResult>();
        foreach (var pair in pairs)
        {
            results.Add(await PairRun.RunAsync(pair, why => Assert.Fail($"{pair}: {why}")) ?? throw new InvalidOperationException());
        }

        var report = new PairReport(results);
        var text = new StringWriter();
        report.Write(text);
        TestContext.Current.TestOutputHelper?.WriteLine(text.ToString());
        Assert.True(report.FalseBlockers.Count == 0 && report.Misses.Count == 0, text.ToString());
    }

    // What both sides are: their own words, the memory of the guest, and what the process has open.
    private static async Task<string> PictureAsync(Qemu qemu)
    {
        var picture = new List<string>();
        foreach (string question in Questions)
        {
            picture.Add((await qemu.Monitor.ExecuteAsync(question)).GetRawText());
        }

        picture.Add((await qemu.Monitor.ExecuteAsync("human-monitor-command", new JsonObject { ["command-line"] = "info qtree" })).GetRawText());
        picture.AddRange(ProcFiles.DescriptorLinks(qemu.Id).Order(StringComparer.Ordinal));
        return string.Join('\n', picture);
    }
}
