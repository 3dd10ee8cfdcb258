using System.Diagnostics;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Qmp;

/// <summary>The session with a monitor, against a scripted one: each fault has a name, and none hangs or throws anything else.</summary>
public class QmpMonitorTests
{
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(300);

    [Fact]
    public async Task Connects_negotiates_and_runs_commands()
    {
        await using var lab = new MonitorLab();
        var monitor = await lab.ConnectAsync();
        Assert.Equal(("10.0.2 (scripted)", true), (monitor.Version.ToString(), monitor.OutOfBand));
        Assert.Equal("running", (await monitor.ExecuteAsync("query-status")).Text("status"));
        Assert.Equal("running", monitor.State.RunState);
        Assert.Equal(["qmp_capabilities", "query-status"], lab.Server.Commands.Select(command => command.Name));
        Assert.Equal("""{"enable":["oob"]}""", lab.Server.Commands.First().Arguments.GetRawText().Replace(" ", ""));
        Assert.Equal(Environment.ProcessId, monitor.Peer!.Pid);
    }

    [Fact]
    public async Task Sends_arguments_as_they_are()
    {
        await using var lab = new MonitorLab(_ => new QmpServerAnswer.Return());
        var monitor = await lab.ConnectAsync();
        await monitor.ExecuteAsync("set", new JsonObject { ["text"] = "ü \"q\" \n", ["list"] = new JsonArray(1, 2.5, true, null), ["in"] = new JsonObject { ["a"] = "b" } });
        var arguments = lab.Server.Commands.Last().Arguments;
        Assert.Equal("ü \"q\" \n", arguments.Text("text"));
        Assert.Equal("""[1,2.5,true,null]""", arguments.GetProperty("list").GetRawText());
        Assert.Equal("b", arguments.GetProperty("in").Text("a"));
    }

    [Theory]
    [InlineData("GenericError", QmpError.CommandFailed)]
    [InlineData("CommandNotFound", QmpError.CommandNotFound)]
    [InlineData("DeviceNotFound", QmpError.CommandFailed)]
    [InlineData("SomethingNew", QmpError.CommandFailed)]
    public async Task An_error_has_qemus_class_and_words_and_the_connection_goes_on(string kind, QmpError reason)
    {
        await using var lab = new MonitorLab(command => command.Name == "bad" ? new QmpServerAnswer.Error("it is so", kind) : null);
        var monitor = await lab.ConnectAsync();
        var failure = await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("bad"));
        Assert.Equal((reason, kind, "bad"), (failure.Reason, failure.QemuClass, failure.Section));
        Assert.Contains("it is so", failure.Message);
        await monitor.ExecuteAsync("query-status");
    }

    [Fact]
    public async Task An_error_without_id_is_that_of_the_only_command()
    {
        await using var lab = new MonitorLab(command => command.Name == "bad" ? new QmpServerAnswer.Error("parse error", WithId: false) : null);
        var monitor = await lab.ConnectAsync();
        Assert.Contains("parse error", (await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("bad"))).Message);
        await monitor.ExecuteAsync("query-status");
    }

    [Fact]
    public async Task An_error_without_id_ends_the_connection_when_two_commands_wait()
    {
        var release = new TaskCompletionSource();
        await using var lab = new MonitorLab(change: options => options with
        {
            Answer = async command =>
            {
                await release.Task;
                return command.Name == "first" ? new QmpServerAnswer.Error("parse error", WithId: false) : new QmpServerAnswer.Return();
            },
        });
        var monitor = await lab.ConnectAsync();
        var first = monitor.ExecuteAsync("first");
        var second = monitor.ExecuteAsync("second");
        Waiting.Until(() => lab.Server.Commands.Count == 3, "both commands");
        release.SetResult();
        Assert.Equal(QmpError.UnattributedError, (await Assert.ThrowsAsync<QmpException>(() => first)).Reason);
        Assert.Equal(QmpError.UnattributedError, (await Assert.ThrowsAsync<QmpException>(() => second)).Reason);
        await monitor.ExecuteAsync("query-status");
    }

    [Fact]
    public async Task Answers_out_of_order_find_their_commands()
    {
        var held = new List<QmpServerCommand>();
        await using var lab = new MonitorLab(command =>
        {
            if (command.Name == "query-status")
            {
                return null;
            }

            held.Add(command);
            return held.Count < 5 ? new QmpServerAnswer.Nothing()
                : new QmpServerAnswer.Raw(string.Concat(held.AsEnumerable().Reverse().Select(one => $$"""{"return": "{{one.Name}}", "id": {{one.Id}}}""" + "\r\n")));
        });
        var monitor = await lab.ConnectAsync();
        var answers = await Task.WhenAll(Enumerable.Range(0, 5).Select(async i => (await monitor.ExecuteAsync($"x{i}")).GetString()!));
        Assert.Equal(["x0", "x1", "x2", "x3", "x4"], answers);
    }

    [Fact]
    public async Task At_most_seven_commands_wait_in_band_so_that_one_out_of_band_is_read()
    {
        var release = new TaskCompletionSource();
        await using var lab = new MonitorLab(change: options => options with
        {
            Answer = async command =>
            {
                if (!command.OutOfBand)
                {
                    await release.Task;
                }

                return new QmpServerAnswer.Return(command.Name);
            },
        });
        var monitor = await lab.ConnectAsync();
        var commands = Enumerable.Range(0, 20).Select(i => monitor.ExecuteAsync($"c{i}")).ToArray();
        await monitor.ExecuteAsync(new QmpCommand("query-yank", OutOfBand: true), null, CancellationToken.None);
        Assert.Equal(7, lab.Server.Commands.Count(command => command.Name.StartsWith('c')));
        release.SetResult();
        await Task.WhenAll(commands);
    }

    [Fact]
    public async Task Libvirts_proxy_gets_one_command_at_a_time_and_none_out_of_band()
    {
        var release = new TaskCompletionSource();
        var arrived = new List<int>();
        MonitorLab? made = null;
        await using var lab = made = new MonitorLab(change: options => options with
        {
            Answer = async command =>
            {
                await release.Task;
                arrived.Add(made!.Server.Commands.Count);
                return new QmpServerAnswer.Return(command.Name);
            },
        });
        var monitor = await lab.ConnectAsync(change: options => options with { Manager = VMManager.Libvirt });
        Assert.False(monitor.OutOfBand);
        var commands = Enumerable.Range(0, 5).Select(i => monitor.ExecuteAsync($"query-{i}")).ToArray();
        Waiting.Until(() => lab.Server.Commands.Count > 1, "the first command");
        release.SetResult();
        await Task.WhenAll(commands);

        // Each had come alone, behind the negotiation and those that were answered.
        Assert.Equal([2, 3, 4, 5, 6], arrived);
    }

    [Fact]
    public async Task The_socket_of_another_user_is_refused()
    {
        await using var lab = new MonitorLab();

        // A user other than root, for root; nobody's, for others.
        File.SetUnixFileMode(lab.SocketPath, Environment.IsPrivilegedProcess ? UnixFileMode.UserRead | UnixFileMode.UserWrite : UnixFileMode.None);
        var refused = Assert.IsType<WireException>(Libc.RecordAsNobody(() => lab.ConnectAsync().GetAwaiter().GetResult()));
        Assert.Equal((WireError.AccessDenied, 0), (refused.Reason, lab.Server.Connections));
    }

    [Fact]
    public async Task A_server_that_says_nothing_has_a_name_and_a_deadline()
    {
        await using var lab = new MonitorLab(change: options => options with { Greeting = [] });
        var clock = Stopwatch.StartNew();
        var failure = await Assert.ThrowsAsync<QmpException>(() => lab.ConnectAsync(Short));
        Assert.Equal(QmpError.NoGreeting, failure.Reason);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(10));
    }

    [Theory]
    [InlineData("QEMU 10.0.2 monitor - type 'help' for more information\r\n(qemu) ")]
    [InlineData("{\"return\": {}}\r\n")]
    [InlineData("{\"QMP\": 5}\r\n")]
    public async Task What_is_no_monitor_is_told_by_its_first_bytes(string greeting)
    {
        await using var lab = new MonitorLab(change: options => options with { Greeting = System.Text.Encoding.ASCII.GetBytes(greeting) });
        Assert.Equal(QmpError.NotAMonitor, (await Assert.ThrowsAsync<QmpException>(() => lab.ConnectAsync())).Reason);
    }

    [Fact]
    public async Task A_refused_negotiation_is_told_with_qemus_words()
    {
        await using var lab = new MonitorLab(change: options => options with { Negotiation = new QmpServerAnswer.Error("not today") });
        var failure = await Assert.ThrowsAsync<QmpException>(() => lab.ConnectAsync());
        Assert.Equal(QmpError.NegotiationRefused, failure.Reason);
        Assert.Contains("not today", failure.Message);
    }

    [Fact]
    public async Task A_second_client_learns_who_holds_the_monitor()
    {
        await using var lab = new MonitorLab();
        await lab.ConnectAsync();
        var failure = await Assert.ThrowsAsync<QmpException>(() => lab.ConnectAsync());
        Assert.Equal(QmpError.MonitorBusy, failure.Reason);
        Assert.Contains($"pid {Environment.ProcessId}, this process", failure.Message);
        Assert.Equal(1, lab.Server.Connections);
    }

    [Fact]
    public async Task A_command_that_is_never_answered_has_a_deadline_and_a_late_answer_does_no_harm()
    {
        var release = new TaskCompletionSource();
        await using var lab = new MonitorLab(change: options => options with
        {
            Capabilities = [],
            Answer = async command =>
            {
                if (command.Name == "slow")
                {
                    await release.Task;
                }

                return new QmpServerAnswer.Return(command.Name);
            },
        });
        var monitor = await lab.ConnectAsync(Short);
        Assert.Equal(QmpError.NoReply, (await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("slow"))).Reason);
        release.SetResult();
        Assert.Equal("next", (await monitor.ExecuteAsync("next")).GetString());
    }

    [Fact]
    public async Task A_qemu_that_holds_its_lock_is_busy_and_not_lost()
    {
        var release = new TaskCompletionSource();
        await using var lab = new MonitorLab(change: options => options with
        {
            Answer = async command =>
            {
                if (!command.OutOfBand)
                {
                    await release.Task;
                }

                return new QmpServerAnswer.Return(command.Name);
            },
        });
        var monitor = await lab.ConnectAsync(change: options => options with { Timeouts = new QmpTimeouts(TimeSpan.FromSeconds(5), Short, 3 * Short) });
        Assert.Equal(QmpError.QemuBusy, (await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("first"))).Reason);
        var second = monitor.ExecuteAsync(new QmpCommand("second"), TimeSpan.FromSeconds(20), CancellationToken.None);
        release.SetResult();
        Assert.Equal("second", (await second).GetString());
    }

    [Fact]
    public async Task A_state_that_is_known_to_take_long_gets_the_longer_deadline()
    {
        await using var lab = new MonitorLab(command => command.Name == "late" ? new QmpServerAnswer.Nothing()
            : command.Name == "query-migrate" ? QmpServerAnswer.Json("""{"status": "device"}""") : null, options => options with { Capabilities = [] });
        var monitor = await lab.ConnectAsync(change: options => options with { Timeouts = new QmpTimeouts(TimeSpan.FromSeconds(5), Short, 3 * Short) });
        await monitor.ExecuteAsync("query-migrate");
        var clock = Stopwatch.StartNew();
        Assert.Equal(QmpError.QemuBusy, (await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("late"))).Reason);
        Assert.True(clock.Elapsed > 2 * Short);
    }

    [Fact]
    public async Task A_hangup_in_a_change_is_an_unknown_outcome_and_nothing_is_sent_twice()
    {
        await using var lab = new MonitorLab(command => command.Name == "cont" ? new QmpServerAnswer.Hangup() : null);
        var monitor = await lab.ConnectAsync();
        var failure = await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("cont"));
        Assert.Equal(QmpError.ConnectionLost, failure.Reason);
        Assert.Contains("Whether 'cont' was carried out is unknown", failure.Message);
        Assert.Single(lab.Server.Commands, command => command.Name == "cont");
    }

    [Fact]
    public async Task A_query_is_asked_again_after_a_reconnection_that_asks_for_the_state_first()
    {
        int asked = 0;
        await using var lab = new MonitorLab(command => command.Name == "query-name" && ++asked == 1 ? new QmpServerAnswer.Hangup()
            : command.Name == "query-name" ? QmpServerAnswer.Json("""{"name": "vm"}""") : null);
        var monitor = await lab.ConnectAsync();
        Assert.Equal("vm", (await monitor.ExecuteAsync("query-name")).Text("name"));
        Assert.Equal((1, 2), (monitor.Reconnections, lab.Server.Connections));
        Assert.Equal(["qmp_capabilities", "query-name", "qmp_capabilities", "query-status", "query-migrate", "query-name"],
            lab.Server.Commands.Select(command => command.Name));
    }

    [Fact]
    public async Task A_message_that_ends_within_is_a_lost_connection()
    {
        await using var lab = new MonitorLab(command => command.Name == "cont" ? new QmpServerAnswer.Raw("{\"return\": {\"a\": ") : null);
        var monitor = await lab.ConnectAsync();
        var running = monitor.ExecuteAsync("cont");
        Waiting.Until(() => lab.Server.Commands.Count == 2, "the command");
        lab.Server.Hangup();
        Assert.Equal(QmpError.ConnectionLost, (await Assert.ThrowsAsync<QmpException>(() => running)).Reason);
    }

    [Fact]
    public async Task A_reply_beyond_64_mebibytes_ends_the_connection_with_its_reason()
    {
        await using var lab = new MonitorLab(command => command.Name == "big"
            ? new QmpServerAnswer.Raw("{\"return\": \"" + new string('x', JsonObjectWalker.LongestMessage) + "\", \"id\": $id}") : null);
        var monitor = await lab.ConnectAsync();
        Assert.Equal(QmpError.MessageTooLarge, (await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("big"))).Reason);
        await monitor.ExecuteAsync("query-status");
    }

    [Fact]
    public async Task Events_come_in_order_with_both_clocks_and_of_a_flood_the_last_are_kept()
    {
        await using var lab = new MonitorLab();
        var monitor = await lab.ConnectAsync();
        await lab.Server.SendEventAsync("STOP");
        var stop = await monitor.WaitForEventAsync(received => received.Event.Name == "STOP", 0, TimeSpan.FromSeconds(30));
        Assert.Equal(1, stop.Sequence);
        Assert.True(Math.Abs((stop.ReceivedAt - stop.Event.Time!.Value).TotalSeconds) < 30);

        byte[] flood = System.Text.Encoding.ASCII.GetBytes(string.Concat(Enumerable.Range(0, 100_000).Select(i =>
            $$$"""{"timestamp": {"seconds": 1, "microseconds": 0}, "event": "N", "data": {"i": {{{i}}}}}""" + "\r\n")));
        var clock = Stopwatch.StartNew();
        await lab.Server.SendRawAsync(flood);
        var last = await monitor.WaitForEventAsync(received => received.Event.Data.Number("i") == 99_999, stop.Sequence, TimeSpan.FromSeconds(60));
        Assert.Equal(100_001, last.Sequence);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(20), clock.Elapsed.ToString());
        var kept = monitor.Events.Since(1, out long dropped);
        Assert.Equal((QmpEventLog.Capacity, 100_000L - QmpEventLog.Capacity), (kept.Length, dropped));
        Assert.Equal("running", (await monitor.ExecuteAsync("query-status")).Text("status"));
    }

    [Fact]
    public async Task An_event_that_does_not_come_is_a_timeout_and_one_of_a_lost_connection_is_a_loss()
    {
        await using var lab = new MonitorLab();
        var monitor = await lab.ConnectAsync();
        Assert.Equal(QmpError.EventTimeout, (await Assert.ThrowsAsync<QmpException>(() => monitor.WaitForEventAsync(_ => true, 0, Short))).Reason);
        var waiting = monitor.WaitForEventAsync(_ => true, 0, TimeSpan.FromSeconds(60));
        lab.Server.Hangup();
        Assert.Equal(QmpError.ConnectionLost, (await Assert.ThrowsAsync<QmpException>(() => waiting)).Reason);
    }

    [Theory]
    [InlineData("""{"status": "brand-new-state", "running": false}""", "brand-new-state")]
    [InlineData("""{"running": true}""", null)]
    [InlineData("""{"status": 5}""", null)]
    [InlineData("[]", null)]
    public async Task A_status_that_is_unknown_or_absent_never_throws(string answer, string? state)
    {
        await using var lab = new MonitorLab(command => command.Name == "query-status" ? QmpServerAnswer.Json(answer) : null);
        var monitor = await lab.ConnectAsync();
        await monitor.ExecuteAsync("query-status");
        Assert.Equal(state, monitor.State.RunState);
    }

    [Fact]
    public async Task A_read_only_monitor_asks_and_changes_nothing()
    {
        await using var lab = new MonitorLab(command => command.Name == "human-monitor-command" ? new QmpServerAnswer.Return("text") : null);
        var monitor = await lab.ConnectAsync(change: options => options with { ReadOnly = true });
        await monitor.ExecuteAsync("query-status");
        await monitor.ExecuteAsync("human-monitor-command", new JsonObject { ["command-line"] = "info ramblock" });
        foreach (var command in new[] { new QmpCommand("cont"), new QmpCommand("human-monitor-command", new JsonObject { ["command-line"] = "stop" }), new QmpCommand("qom-set") })
        {
            Assert.Equal(QmpError.ReadOnly, (await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync(command, null, CancellationToken.None))).Reason);
        }

        Assert.Equal(3, lab.Server.Commands.Count);
    }

    [Fact]
    public async Task A_lease_closes_after_two_commands_and_waits_for_its_interval()
    {
        await using var lab = new MonitorLab();
        var interval = TimeSpan.FromMilliseconds(400);
        var monitor = await lab.ConnectAsync(change: options => options with { Lease = true, LeaseInterval = interval });
        Assert.Equal(("10.0.2", false), (monitor.Version.Number, monitor.IsConnected));
        var clock = Stopwatch.StartNew();
        await monitor.ExecuteAllAsync([new QmpCommand("query-status"), new QmpCommand("query-migrate"), new QmpCommand("query-status")]);
        Assert.True(clock.Elapsed > 2 * interval - TimeSpan.FromMilliseconds(50), clock.Elapsed.ToString());
        Assert.Equal(3, lab.Server.Connections);
        await using (var other = await QmpMonitor.ConnectAsync(new QmpMonitorOptions { Endpoint = lab.Server.Endpoint }))
        {
            Assert.True(other.IsConnected);
        }

        Assert.Equal(QmpError.LeaseOnly, (await Assert.ThrowsAsync<QmpException>(() => monitor.WaitForEventAsync(_ => true, 0, interval))).Reason);
    }

    [Fact]
    public async Task A_lease_waits_until_the_manager_has_let_go()
    {
        await using var lab = new MonitorLab();
        var holder = await lab.ConnectAsync();
        var connecting = lab.ConnectAsync(change: options => options with { Lease = true });
        await Task.WhenAny(connecting, Task.Delay(200));
        Assert.False(connecting.IsCompleted);
        await holder.DisposeAsync();
        Assert.Equal("running", (await (await connecting).ExecuteAsync("query-status")).Text("status"));
    }

    [Theory]
    [InlineData("/var/lib/libvirt/qemu/domain-1-web/monitor.sock", false, QmpError.ManagedMonitor)]
    [InlineData("/var/lib/libvirt/qemu/domain-1-web/monitor.sock", true, QmpError.ManagedMonitor)]
    [InlineData("/var/run/qemu-server/100.qmp", false, QmpError.ManagedMonitor)]
    public async Task A_managers_socket_is_not_connected_to(string path, bool lease, QmpError reason)
    {
        var options = new QmpMonitorOptions { Endpoint = new Endpoint.Unix(path), Lease = lease };
        Assert.Equal(reason, (await Assert.ThrowsAsync<QmpException>(() => QmpMonitor.ConnectAsync(options))).Reason);
    }

    [Fact]
    public async Task Tcp_works_on_loopback_and_is_refused_in_the_clear_beyond()
    {
        await using var server = QmpServer.Start(new QmpServerOptions { Endpoint = new Endpoint.Tcp("127.0.0.1", 0), Answer = command => ValueTask.FromResult(MonitorLab.Usual(command)) });
        await using var monitor = await QmpMonitor.ConnectAsync(new QmpMonitorOptions { Endpoint = server.Endpoint });
        Assert.Equal("running", (await monitor.ExecuteAsync("query-status")).Text("status"));
        var failure = await Assert.ThrowsAsync<WireException>(() => QmpMonitor.ConnectAsync(new QmpMonitorOptions { Endpoint = new Endpoint.Tcp("192.0.2.1", 4444) }));
        Assert.Equal(WireError.PlaintextRefused, failure.Reason);
    }

    [Fact]
    public async Task Nothing_of_the_arguments_reaches_the_log_or_an_error()
    {
        var log = new LogLines();
        await using var lab = new MonitorLab(command => command.Name == "object-add" ? new QmpServerAnswer.Error("no") : null);
        await using var monitor = await QmpMonitor.ConnectAsync(new QmpMonitorOptions { Endpoint = lab.Server.Endpoint }, log);
        var failure = await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("object-add",
            new JsonObject { ["qom-type"] = "secret", ["id"] = "s0", ["data"] = "hunter2" }));
        Assert.Contains(log.Lines, line => line.Contains("object-add"));
        Assert.DoesNotContain("hunter2", string.Join('\n', log.Lines) + failure);
        Assert.DoesNotContain("hunter2", new QmpCommand("x", new JsonObject { ["data"] = "hunter2" }).ToString());
    }

    private sealed class LogLines : Microsoft.Extensions.Logging.ILogger
    {
        internal List<string> Lines { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(Microsoft.Extensions.Logging.LogLevel logLevel) => true;

        public void Log<TState>(Microsoft.Extensions.Logging.LogLevel logLevel, Microsoft.Extensions.Logging.EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            lock (Lines)
            {
                Lines.Add(formatter(state, exception) + exception);
            }
        }
    }
}
