using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Qmp;

/// <summary>The monitor session with real QEMUs of every version that is here.</summary>
public class MonitorTests
{
    public static TheoryData<string> Programs => ["qemu-system-x86_64", "qemu-system-x86_64-trixie", "qemu-system-x86_64-newer", "qemu-system-x86_64-older"];

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task A_session_asks_waits_and_names_what_goes_wrong(string program)
    {
        using var folder = new TestFolder();
        using var qemu = Start(folder, program);
        await using var monitor = await QmpMonitor.ConnectAsync(Options(folder));
        Assert.True(monitor.OutOfBand);
        Assert.Equal(qemu.Id, monitor.Peer!.Pid);
        Assert.Equal(monitor.Version, QmpVersion.Read(await monitor.ExecuteAsync("query-version")));
        Assert.Equal("running", (await monitor.ExecuteAsync("query-status")).Text("status"));

        // Events, with the clocks of both sides: the same host here.
        long before = monitor.Events.Last;
        await monitor.ExecuteAsync("stop");
        var stop = await monitor.WaitForEventAsync(received => received.Event.Name == "STOP", before, TimeSpan.FromSeconds(30));
        Assert.True((stop.ReceivedAt - stop.Event.Time!.Value).Duration() < TimeSpan.FromSeconds(10));
        Assert.Equal("paused", monitor.State.RunState);

        // Errors in QEMU's words; out-of-band commands; another client.
        var failure = await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("qom-get", new JsonObject { ["path"] = "/nowhere", ["property"] = "x" }));
        Assert.Equal((QmpError.CommandFailed, "DeviceNotFound"), (failure.Reason, failure.QemuClass));
        Assert.Equal(QmpError.CommandNotFound, (await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("no-such-command"))).Reason);
        await monitor.ExecuteAsync(new QmpCommand("query-yank", OutOfBand: true), null, CancellationToken.None);
        var busy = await Assert.ThrowsAsync<QmpException>(() => QmpMonitor.ConnectAsync(Options(folder)));
        Assert.Equal(QmpError.MonitorBusy, busy.Reason);
        Assert.Contains($"(pid {Environment.ProcessId}, this process)", busy.Message);

        await monitor.ExecuteAsync("quit");
        Assert.Equal(0, qemu.WaitForExit());
        Assert.Equal(QmpError.QemuExited, (await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("query-status"))).Reason);
    }

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task The_schema_tells_what_a_version_has(string program)
    {
        using var folder = new TestFolder();
        using var qemu = Start(folder, program);
        await using var monitor = await QmpMonitor.ConnectAsync(Options(folder));
        var schema = await monitor.GetSchemaAsync();
        bool since82 = monitor.Version.CompareTo(new QmpVersion(8, 2, 0, "")) > 0;
        Assert.Equal(since82, schema.HasArgument("migrate", "channels"));
        Assert.Equal(since82, schema.HasArgument("migrate", "channels.addr.transport"));
        Assert.Equal(since82, schema.ValuesOf("migrate-set-capabilities", "capabilities.capability").Contains("switchover-ack"));
        Assert.Contains("multifd", schema.ValuesOf("migrate-set-capabilities", "capabilities.capability"));
        Assert.Equal(monitor.Version.Major >= 10, schema.HasArgument("migrate-incoming", "exit-on-error"));
        Assert.Equal(monitor.Version.Major >= 11, schema.Returns("query-migrate", "remaining"));
        Assert.True(schema.Returns("query-migrate", "ram.dirty-sync-count"));
        Assert.True(schema.AllowsOutOfBand("migrate-pause") && !schema.AllowsOutOfBand("migrate") && schema.HasEvent("MIGRATION"));
        Assert.Same(schema, await monitor.GetSchemaAsync());
    }

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task A_process_that_is_stopped_gives_no_reply_and_goes_on_afterwards(string program)
    {
        using var folder = new TestFolder();
        using var qemu = Start(folder, program);
        var timeouts = new QmpTimeouts(TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(2));
        await using var monitor = await QmpMonitor.ConnectAsync(Options(folder) with { Timeouts = timeouts });
        Signal(qemu.Id, "STOP");
        Assert.Equal(QmpError.NoReply, (await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("query-status"))).Reason);
        Signal(qemu.Id, "CONT");
        Assert.Equal("running", (await monitor.ExecuteAsync("query-status")).Text("status"));
        Signal(qemu.Id, "STOP");
        var during = monitor.ExecuteAsync("stop");
        qemu.Kill();
        var end = await Assert.ThrowsAsync<QmpException>(() => during);
        Assert.Equal((QmpError.QemuExited, "stop"), (end.Reason, end.Section));
        Assert.Equal(QmpError.QemuExited, (await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("query-status"))).Reason);
    }

    private static QemuProcess Start(TestFolder folder, string program)
    {
        var qemu = QemuProcess.Start(folder, "q", ["-M", "q35", "-accel", "tcg", "-m", "64"], monitorLater: true, program);
        qemu.WaitForSocket(folder.File("q.qmp"));
        return qemu;
    }

    private static QmpMonitorOptions Options(TestFolder folder) => new() { Endpoint = new Endpoint.Unix(folder.File("q.qmp")) };

    private static void Signal(int pid, string name)
    {
        using var kill = System.Diagnostics.Process.Start("kill", [$"-{name}", $"{pid}"]);
        kill.WaitForExit();
        Assert.Equal(0, kill.ExitCode);
    }
}
