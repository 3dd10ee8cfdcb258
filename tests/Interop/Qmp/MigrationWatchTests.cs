using System.Diagnostics;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Qmp;

/// <summary>Migrations and dirty rates of real QEMUs, as the module reads them; and the finding of the processes.</summary>
public sealed class MigrationWatchTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task A_migration_is_followed_from_its_setup_to_its_end(string program)
    {
        await using var qemu = await StartAsync(program, "followed");
        await qemu.Monitor.ExecuteAsync("migrate-set-capabilities", new JsonObject { ["capabilities"] = new JsonArray(new JsonObject { ["capability"] = "events", ["state"] = true }) });
        await qemu.Monitor.ExecuteAsync("migrate", new JsonObject { ["uri"] = "exec:sleep 1; cat >/dev/null" });
        var samples = new List<QemuMigrationStatus>();
        var clock = Stopwatch.StartNew();
        await foreach (var sample in new MigrationWatch(qemu.Monitor, "followed") { Interval = TimeSpan.FromSeconds(10) }.WatchAsync(CancellationToken.None))
        {
            samples.Add(sample);
        }

        // With an interval of ten seconds only QEMU's announcements bring samples.
        var last = samples[^1];

        // A VM of this size may be down for less than the millisecond that QEMU counts in.
        Assert.Equal((QemuMigrationPhase.Completed, "postmigrate"), (last.Phase, last.RunState));
        Assert.True(last is { HasEnded: true, Downtime: not null, TotalTime.Ticks: > 0, TotalBytes: > 64 << 20, RemainingBytes: 0, Pass: > 0 }, last.ToString());
        Assert.Contains(samples, sample => sample.Phase == QemuMigrationPhase.Copying && sample.RunState == "running");
        Assert.All(samples, sample => Assert.Equal([], sample.OtherMembers));

        // A question is asked at most every fifth of a second, however late the answer to the one before it was.
        Assert.True(clock.Elapsed > (samples.Count - 1) * TimeSpan.FromMilliseconds(190), $"{samples.Count} samples within {clock.Elapsed}");
    }

    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task A_dirty_rate_is_measured_and_not_while_a_migration_runs(string program)
    {
        await using var qemu = await StartAsync(program, "measured");
        var profile = await DirtyRateMeasurement.MeasureAsync(qemu.Monitor, "measured", [TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(2)], DirtyRateMode.PageSampling, 4096);
        Assert.Equal([1.0, 2.0], profile.Windows.Select(window => window.Window.TotalSeconds));
        Assert.Equal(64L << 20, profile.MemoryBytes);
        bool knowsMilliseconds = (await qemu.Monitor.GetSchemaAsync()).HasArgument("calc-dirty-rate", "calc-time-unit");
        var half = DirtyRateMeasurement.MeasureAsync(qemu.Monitor, null, [TimeSpan.FromSeconds(0.5)], DirtyRateMode.PageSampling, 512);
        if (knowsMilliseconds)
        {
            Assert.Single((await half).Windows);
        }
        else
        {
            Assert.Equal(QmpError.NotSupported, (await Assert.ThrowsAsync<QmpException>(() => half)).Reason);
        }

        await qemu.Monitor.ExecuteAsync("migrate-set-parameters", new JsonObject { ["max-bandwidth"] = 100_000 });
        await qemu.Monitor.ExecuteAsync("migrate", new JsonObject { ["uri"] = "exec:cat >/dev/null" });
        var refused = await Assert.ThrowsAsync<QmpException>(() => DirtyRateMeasurement.MeasureAsync(qemu.Monitor, null, [TimeSpan.FromSeconds(1)], DirtyRateMode.PageSampling, 512));
        Assert.Equal(QmpError.MigrationRunning, refused.Reason);
    }

    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task A_process_is_found_with_all_that_it_is(string program)
    {
        string name = $"found-{Environment.ProcessId}-{program}";
        await using var qemu = await StartAsync(program, name);
        var held = Assert.Single(await VMFinder.FindAsync(ask: true, vm => vm.Name == name));
        Assert.Equal((qemu.Id, null), (held.ProcessId, held.State));
        Assert.Equal(Environment.ProcessId, Assert.Single(held.Monitors).HolderId);
        await qemu.Monitor.DisposeAsync();
        var found = Assert.Single(await VMFinder.FindAsync(ask: true, vm => vm.Name == name));
        Assert.Equal(("running", 64L << 20, null), (found.State, found.MemoryBytes, found.MonitorHolder));
        Assert.StartsWith("pc-q35-", found.Machine);
        Assert.Equal("unix:" + qemu.MonitorPath, found.Monitor);
        Assert.Equal(qemu.Monitor.Version.Number, found.Version);
    }

    [Fact]
    public async Task A_monitor_that_is_held_by_the_manager_of_libvirt_is_left_alone()
    {
        // A process with the manager's name holds the monitor, as virtqemud does.
        await using var qemu = await StartAsync("qemu-system-x86_64", $"managed-{Environment.ProcessId}");
        await qemu.Monitor.DisposeAsync();
        string manager = _folder.File("virtqemud");
        File.Copy(Peers.Require("perl"), manager);
        File.SetUnixFileMode(manager, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        using var holder = new PeerProcess(manager, "-MSocket", "-e",
            $"socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un('{qemu.MonitorPath}')) or die $!; sysread(S, $b, 9); $| = 1; print $b, qq(\n); sleep 1000");
        holder.WaitUntil(() => holder.Output.Contains("QMP", StringComparison.Ordinal), "the manager's connection");
        var found = Assert.Single(await VMFinder.FindAsync(ask: true, vm => vm.ProcessId == qemu.Id));
        Assert.Equal((VMManager.Libvirt, false, holder.Id), (found.Manager, found.Monitors[0].IsUsable, found.Monitors[0].HolderId));
        Assert.Contains("virt-qemu-qmp-proxy", found.Problem);
        var busy = await Assert.ThrowsAsync<QmpException>(() => QmpMonitor.ConnectAsync(new QmpMonitorOptions { Endpoint = new Endpoint.Unix(qemu.MonitorPath) }));
        Assert.Equal(QmpError.MonitorBusy, busy.Reason);
        Assert.Contains($"virtqemud (pid {holder.Id})", busy.Message);
    }

    private static Task<Engine.Qmp.QemuProcess> StartAsync(string program, string name) => Engine.Qmp.QemuProcess.StartAsync(new QemuProcessOptions
    {
        Program = Peers.Require(program),
        Arguments = ["-name", name, "-M", "q35", "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none"],
    });
}
