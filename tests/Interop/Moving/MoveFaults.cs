using System.Text.Json.Nodes;
using MigrationOps.Engine.Moving;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests.Moving;

/// <summary>Brings the failures of a move about, by their names, and looks at what is left.</summary>
internal static class MoveFaults
{
    private const long Slow = 1_000_000;

    internal static Task RunAsync(string failure, string program, bool locks) => failure switch
    {
        "SetupRefused" => SetupRefusedAsync(program, locks),
        "ConnectionRefused" => EndsAtSourceAsync(program, locks, MoveError.MigrationFailed, (lab, options) => options with { Route = _ => ValueTask.FromResult("tcp:127.0.0.1:1") }),
        "CutWhileCopying" => WhileCopyingAsync(program, locks, MoveError.MigrationFailed, (lab, relay, move) => relay.Cut()),
        "SilentWhileCopying" => WhileCopyingAsync(program, locks, MoveError.NoProgress, (lab, relay, move) => relay.GoSilent()),
        "TargetKilledWhileCopying" => WhileCopyingAsync(program, locks, MoveError.MigrationFailed, (lab, relay, move) => lab.TargetProcess.Kill()),
        "TargetStoppedWhileCopying" => WhileCopyingAsync(program, locks, MoveError.NoProgress, (lab, relay, move) => lab.TargetProcess.Signal("STOP")),
        "CancelledWhileCopying" => WhileCopyingAsync(program, locks, MoveError.Cancelled, (lab, relay, move) => move.Cancel()),
        "SourceKilledWhileCopying" => SourceKilledWhileCopyingAsync(program, locks),
        "TargetRefusesTheState" => TargetRefusesAsync(program, locks),
        "CutAfterTheLoad" => AfterLoadAsync(program, locks, (lab, relay, move) => relay.Cut()),
        "CancelledAfterTheLoad" => AfterLoadAsync(program, locks, (lab, relay, move) => move.Cancel()),
        "TargetKilledAfterTheLoad" => AfterLoadAsync(program, locks, (lab, relay, move) => lab.TargetProcess.Kill()),
        "TargetKilledBeforeTheCommit" => TargetKilledBeforeCommitAsync(program, locks),
        "SourceKilledAtTheCommit" => AtCommitAsync(program, locks, lab => lab.SourceProcess.Kill(), VMRunsAt.Target),
        "AnswerOfContLost" => AnswerLostAsync(program, locks),
        "TargetSilentAfterTheCommit" => TargetSilentAsync(program, locks),
        "TargetKilledAfterTheCommit" => AtCommitAsync(program, locks, lab => lab.TargetProcess.Kill(), VMRunsAt.Nowhere),
        _ => throw new ArgumentException($"There is no test of '{failure}'."),
    };

    private static async Task SetupRefusedAsync(string program, bool locks)
    {
        await using var lab = await MoveLab.StartAsync(program, locks);
        string[] before = await SettingsAsync(lab.Source);
        var end = await new MigrationMove(lab.Options() with { Uri = "unix:/nonexistent/folder/socket" }).RunAsync(CancellationToken.None);
        Assert.Equal((MoveError.SetupRefused, VMRunsAt.Source, QemuMigrationOutcome.Failed), (end.Failure?.Reason, end.Result.RunsAt, end.Result.Outcome));
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Source);
        Assert.Equal(before, await SettingsAsync(lab.Source));
    }

    private static async Task EndsAtSourceAsync(string program, bool locks, MoveError reason, Func<MoveLab, MoveOptions, MoveOptions> change)
    {
        await using var lab = await MoveLab.StartAsync(program, locks);
        string[] before = await SettingsAsync(lab.Source);
        var end = await new MigrationMove(change(lab, lab.Options())).RunAsync(CancellationToken.None);
        await AssertAtSourceAsync(lab, end, reason);
        Assert.Equal(before, await SettingsAsync(lab.Source));
    }

    private static async Task WhileCopyingAsync(string program, bool locks, MoveError reason, Action<MoveLab, TestRelay, MigrationMove> fail)
    {
        await using var lab = await MoveLab.StartAsync(program, locks, WritingFirmware.MostPages);
        TestRelay? relay = null;
        MigrationMove? move = null;
        bool done = false;
        var options = lab.Options() with
        {
            MaxBandwidth = Slow,
            DowntimeLimit = TimeSpan.FromMilliseconds(1),
            OnStall = [],
            NoProgress = TimeSpan.FromSeconds(3),
            Route = target => ValueTask.FromResult((relay = new TestRelay(target)).Uri),
            OnSample = sample =>
            {
                if (!done && sample.Phase == QemuMigrationPhase.Copying && sample.TransferredBytes > 0)
                {
                    done = true;
                    fail(lab, relay!, move!);
                }
            },
        };
        move = new MigrationMove(options);
        var end = await move.RunAsync(CancellationToken.None);
        relay?.Dispose();
        await AssertAtSourceAsync(lab, end, reason);
    }

    private static async Task SourceKilledWhileCopyingAsync(string program, bool locks)
    {
        await using var lab = await MoveLab.StartAsync(program, locks, WritingFirmware.MostPages);
        var options = lab.Options() with
        {
            MaxBandwidth = Slow,
            DowntimeLimit = TimeSpan.FromMilliseconds(1),
            OnSample = sample =>
            {
                if (sample.TransferredBytes > 0)
                {
                    lab.SourceProcess.Kill();
                }
            },
        };
        var end = await new MigrationMove(options).RunAsync(CancellationToken.None);
        Assert.NotNull(end.Failure);
        Assert.Equal((VMRunsAt.Nowhere, MigrationSafeAction.StartFromDisk), (end.Result.RunsAt, end.Result.SafeAction));
        lab.TargetProcess.WaitForExit();
    }

    private static async Task TargetRefusesAsync(string program, bool locks)
    {
        await using var lab = await MoveLab.StartAsync(program, locks, targetArguments: ["-m", "32"]);
        var end = await new MigrationMove(lab.Options() with { TargetLog = () => lab.TargetProcess.Output }).RunAsync(CancellationToken.None);
        await AssertAtSourceAsync(lab, end, end.Failure?.Reason ?? MoveError.TargetRefused);
        Assert.Equal(("ram", "pc.ram"), (end.Result.RefusedSection, end.Result.RefusedField));
    }

    private static async Task AfterLoadAsync(string program, bool locks, Action<MoveLab, TestRelay, MigrationMove> fail)
    {
        await using var lab = await MoveLab.StartAsync(program, locks);
        TestRelay? relay = null;
        var move = new MigrationMove(lab.Options() with
        {
            Route = target =>
            {
                relay = new TestRelay(target);
                relay.HoldBack();
                return ValueTask.FromResult(relay.Uri);
            },
        });
        var running = move.RunAsync(CancellationToken.None);
        await lab.Target.WaitForEventAsync(received => received.Event.Name == "MIGRATION" && received.Event.Data.Text("status") == "completed", 0, Waiting.Patience);
        fail(lab, relay!, move);
        var end = await running.WaitAsync(Waiting.Patience);
        relay!.Dispose();
        await AssertAtSourceAsync(lab, end, end.Failure?.Reason ?? MoveError.NotRunning);
    }

    private static async Task TargetKilledBeforeCommitAsync(string program, bool locks)
    {
        await using var lab = await MoveLab.StartAsync(program, locks);
        var move = new MigrationMove(lab.Options() with
        {
            OnRecord = async record =>
            {
                if (record.Phase == MovePhase.Switching)
                {
                    await lab.Source.WaitForEventAsync(received => received.Event.Name == "MIGRATION" && received.Event.Data.Text("status") == "completed", 0, Waiting.Patience);
                    lab.TargetProcess.Kill();
                }
            },
        });
        var end = await move.RunAsync(CancellationToken.None);
        await AssertAtSourceAsync(lab, end, MoveError.NotRunning);
        Assert.Contains(MoveHistory.Read(lab.JournalPath).Records, record => record.Record == MoveRecordKind.Abandoned);
    }

    private static async Task AtCommitAsync(string program, bool locks, Action<MoveLab> fail, VMRunsAt expected)
    {
        await using var lab = await MoveLab.StartAsync(program, locks);
        var end = await new MigrationMove(lab.Options() with
        {
            OnRecord = record =>
            {
                if (record.Record == MoveRecordKind.Commit)
                {
                    fail(lab);
                }

                return Task.CompletedTask;
            },
        }).RunAsync(CancellationToken.None);
        Assert.Equal(expected, end.Result.RunsAt);
        if (expected == VMRunsAt.Target)
        {
            Assert.Null(end.Failure);
            lab.Disk.AssertRunsOnlyAt(expected);
            return;
        }

        // The source has a guest that may be behind its disks: it stays stopped, whatever is asked for.
        Assert.Equal((MoveError.CommitUnknown, MigrationSafeAction.StartFromDisk), (end.Failure?.Reason, end.Result.SafeAction));
        Assert.Equal("postmigrate", (await lab.Source.ExecuteAsync("query-status")).Text("status"));
        await lab.DisconnectAsync();
        var refused = await Assert.ThrowsAsync<MoveException>(() => MoveRepair.RunAsync(lab.Inspection(), Waiting.Patience, CancellationToken.None));
        Assert.Equal(MoveError.NotRepairable, refused.Reason);

        // With an operator's word that it never ran, the guest is the source's again.
        var repaired = await MoveRepair.RunAsync(lab.Inspection() with { Assumptions = [MigrationAssumption.TargetNeverRan] }, Waiting.Patience, CancellationToken.None);
        Assert.Equal(VMRunsAt.Source, repaired.RunsAt);
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Source);
    }

    // The answer alone is lost; then the command itself too.
    private static async Task AnswerLostAsync(string program, bool locks)
    {
        foreach (bool reaches in new[] { true, false })
        {
            await using var lab = await MoveLab.StartAsync(program, locks);
            await lab.DisconnectAsync();
            using var proxy = new QmpProxy(lab.File("proxy.qmp"), lab.File("target.qmp"), "cont", reaches, breaks: true);
            await lab.ConnectAsync(target: lab.File("proxy.qmp"));
            var end = await new MigrationMove(lab.Options()).RunAsync(CancellationToken.None);
            Assert.True(end.Failure is null, end.Failure?.Message);
            Assert.Equal(VMRunsAt.Target, end.Result.RunsAt);
            Assert.True(proxy.Seen >= 1);
            lab.Disk.AssertRunsOnlyAt(VMRunsAt.Target);
        }
    }

    private static async Task TargetSilentAsync(string program, bool locks)
    {
        await using var lab = await MoveLab.StartAsync(program, locks);
        await lab.DisconnectAsync();
        using (var proxy = new QmpProxy(lab.File("proxy.qmp"), lab.File("target.qmp"), "cont", reaches: true, breaks: true) { StaysAway = true })
        {
            await lab.ConnectAsync(target: lab.File("proxy.qmp"));
            var end = await new MigrationMove(lab.Options() with { StepTimeout = TimeSpan.FromSeconds(2) }).RunAsync(CancellationToken.None);
            Assert.Equal((MoveError.CommitUnknown, VMRunsAt.Unknown, QemuMigrationOutcome.Unknown, MigrationSafeAction.ReachTarget),
                (end.Failure?.Reason, end.Result.RunsAt, end.Result.Outcome, end.Result.SafeAction));
            Assert.Equal("postmigrate", (await lab.Source.ExecuteAsync("query-status")).Text("status"));
        }

        // It is reached in another way, and runs.
        await lab.DisconnectAsync();
        var repaired = await MoveRepair.RunAsync(lab.Inspection() with { Target = new QmpMonitorOptions { Endpoint = new Engine.Wire.Endpoint.Unix(lab.File("target.qmp")) } }, Waiting.Patience, CancellationToken.None);
        Assert.Equal((VMRunsAt.Target, MigrationSafeAction.None), (repaired.RunsAt, repaired.SafeAction));
        lab.SourceProcess.WaitForExit();
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Target);
    }

    private static async Task AssertAtSourceAsync(MoveLab lab, MoveEnd end, MoveError reason)
    {
        string all = $"{end.Failure?.Message}\n{string.Join('\n', end.Result.Evidence)}\n{File.ReadAllText(lab.JournalPath)}\n{lab.TargetProcess.Output}\n{lab.SourceProcess.Output}";
        Assert.True(end.Failure?.Reason == reason, all);
        Assert.True(end.Result.RunsAt == VMRunsAt.Source, all);
        Assert.True(end.Result.SafeAction is MigrationSafeAction.None or MigrationSafeAction.QuitTarget, all);
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Source);
        lab.TargetProcess.Signal("CONT");
        if (end.Result.SafeAction == MigrationSafeAction.QuitTarget)
        {
            await lab.DisconnectAsync();
            var repaired = await MoveRepair.RunAsync(lab.Inspection(), Waiting.Patience, CancellationToken.None);
            Assert.Equal((VMRunsAt.Source, MigrationSafeAction.None), (repaired.RunsAt, repaired.SafeAction));
            await lab.ConnectSourceAsync();
        }

        lab.TargetProcess.WaitForExit();
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Source);
        Assert.Equal("running", (await lab.Source.ExecuteAsync("query-status")).Text("status"));
    }

    private static async Task<string[]> SettingsAsync(QmpMonitor monitor)
    {
        var capabilities = await monitor.ExecuteAsync("query-migrate-capabilities");
        var parameters = JsonNode.Parse((await monitor.ExecuteAsync("query-migrate-parameters")).GetRawText())!.AsObject();
        return [.. capabilities.Items().Select(item => item.GetRawText()).Order(StringComparer.Ordinal), .. parameters.Select(item => $"{item.Key}={item.Value?.ToJsonString()}").Order(StringComparer.Ordinal)];
    }
}
