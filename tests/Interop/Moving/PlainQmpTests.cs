using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Moving;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests.Moving;

/// <summary>
/// The figures of docs/moving.md: the same faults and the same moves with plain QMP and with the commit. To be run by name, with
/// <c>-explicit only -showLiveOutput</c>.
/// </summary>
public class PlainQmpTests
{
    private const int Moves = 20;

    private static readonly string[] s_faults = ["cut after the target has started", "cancelled when the target has started", "cut while copying", "cancelled while copying", "target killed while copying"];

    [Fact(Explicit = true), Trait("Category", "ByHand")]
    public async Task What_QEMU_alone_does_with_faults_that_a_move_survives()
    {
        int one = 0, both = 0, none = 0;
        foreach (string program in Qmp.MonitorTests.Programs.Select(row => row.Data))
        {
            foreach (string fault in s_faults)
            {
                int running = await BreakPlainAsync(program, fault);
                Write($"plain QMP, {program}, {fault}: {running} run");
                (one, both, none) = (one + (running == 1 ? 1 : 0), both + (running == 2 ? 1 : 0), none + (running == 0 ? 1 : 0));
            }
        }

        Write($"plain QMP: one runs in {one} of {one + both + none}, two in {both}, none in {none}");
        Assert.True(both > 0, "QEMU alone kept the promise everywhere: docs/moving.md says otherwise.");
    }

    [Theory(Explicit = true), Trait("Category", "ByHand")]
    [MemberData(nameof(Qmp.MonitorTests.Programs), MemberType = typeof(Qmp.MonitorTests))]
    public async Task What_the_commit_adds_to_the_downtime(string program)
    {
        var plain = new List<double>();
        var committed = new List<double>();
        var journal = new List<double>();
        var start = new List<double>();
        for (int i = 0; i < Moves; i++)
        {
            await using (var lab = await MoveLab.StartAsync(program))
            {
                plain.Add(await MovePlainAsync(lab));
            }

            await using (var lab = await MoveLab.StartAsync(program))
            {
                var end = await new MigrationMove(lab.Options()).RunAsync(CancellationToken.None);
                Assert.True(end.Failure is null, end.Failure?.Message);
                committed.Add(end.Result.Downtime!.Value.TotalMilliseconds);
                journal.Add(end.Result.DowntimeParts[2].Duration.TotalMilliseconds);
                start.Add(end.Result.DowntimeParts[3].Duration.TotalMilliseconds);
            }
        }

        Write(string.Create(CultureInfo.InvariantCulture, $"{program}: downtime of plain QMP {Median(plain):0.0} ms, with the commit {Median(committed):0.0} ms (journal {Median(journal):0.0}, cont to RESUME {Median(start):0.0}); medians of {Moves} moves in turn"));
    }

    private static async Task<int> BreakPlainAsync(string program, string fault)
    {
        bool early = fault.EndsWith("copying", StringComparison.Ordinal);
        await using var lab = await MoveLab.StartAsync(program, locks: false, pages: early ? WritingFirmware.MostPages : 0);
        using var relay = await StartPlainAsync(lab, early ? 1_000_000 : 1L << 50, holdBack: !early);
        if (early)
        {
            await UntilAsync(async () => (await lab.Source.ExecuteAsync("query-migrate")).Member("ram")?.Number("transferred") > 0, "memory is copied");
        }
        else
        {
            await UntilAsync(async () => (await SideAnswer.AskAsync(lab.Target, null, CancellationToken.None)).Runs, "the target runs");
        }

        switch (fault)
        {
            case var cut when cut.StartsWith("cut", StringComparison.Ordinal):
                relay.Cut();
                break;
            case var cancel when cancel.StartsWith("cancelled", StringComparison.Ordinal):
                await SideControl.IgnoreRefusalAsync(() => lab.Source.ExecuteAsync("migrate_cancel"));
                break;
            default:
                lab.TargetProcess.Kill();
                break;
        }

        await UntilAsync(async () => (await SideAnswer.AskAsync(lab.Source, null, CancellationToken.None)).HasEnded, "the source's migration ends");
        await SideControl.SettleAsync(lab.Source, TimeSpan.FromSeconds(10));
        int running = (await SideAnswer.AskAsync(lab.Source, null, CancellationToken.None)).Runs ? 1 : 0;
        return lab.TargetProcess.HasExited ? running : running + await RunsAsync(lab);
    }

    // A target of QEMU's own ends itself when its load fails.
    private static async Task<int> RunsAsync(MoveLab lab)
    {
        try
        {
            return (await SideAnswer.AskAsync(lab.Target, null, CancellationToken.None)).Runs ? 1 : 0;
        }
        catch (QmpException e) when (e.Reason == QmpError.QemuExited)
        {
            return 0;
        }
    }

    private static async Task<double> MovePlainAsync(MoveLab lab)
    {
        using var relay = await StartPlainAsync(lab, 1L << 50, holdBack: false);
        var resume = await lab.Target.WaitForEventAsync(received => received.Event.Name == "RESUME", 0, Waiting.Patience);
        var stop = await lab.Source.WaitForEventAsync(received => received.Event.Name == "STOP", 0, Waiting.Patience);
        return Stopwatch.GetElapsedTime(stop.Ticks, resume.Ticks).TotalMilliseconds;
    }

    private static async Task<TestRelay> StartPlainAsync(MoveLab lab, long bandwidth, bool holdBack)
    {
        foreach (var monitor in new[] { lab.Source, lab.Target })
        {
            await monitor.ExecuteAsync("migrate-set-capabilities", new JsonObject
            {
                ["capabilities"] = new JsonArray([.. new[] { "events", "return-path" }.Select(name => new JsonObject { ["capability"] = name, ["state"] = true })]),
            });
        }

        await lab.Source.ExecuteAsync("migrate-set-parameters", new JsonObject { ["max-bandwidth"] = bandwidth, ["downtime-limit"] = bandwidth < 1L << 40 ? 1 : 300 });
        await lab.Target.ExecuteAsync("migrate-incoming", new JsonObject { ["uri"] = "tcp:127.0.0.1:0" });
        string port = (await lab.Target.ExecuteAsync("query-migrate")).Items("socket-address").First().Text("port")!;
        var relay = new TestRelay("tcp:127.0.0.1:" + port);
        if (holdBack)
        {
            relay.HoldBack();
        }

        // A move without faults goes as directly as that of the module.
        await lab.Source.ExecuteAsync("migrate", new JsonObject { ["uri"] = holdBack || bandwidth < 1L << 40 ? relay.Uri : "tcp:127.0.0.1:" + port });
        return relay;
    }

    private static async Task UntilAsync(Func<Task<bool>> condition, string what)
    {
        long start = Stopwatch.GetTimestamp();
        while (!await condition())
        {
            Assert.True(Stopwatch.GetElapsedTime(start) < Waiting.Patience, $"It never came: {what}");
            await Task.Delay(5);
        }
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);

    private static void Write(string line) => TestContext.Current.TestOutputHelper!.WriteLine(line);
}
