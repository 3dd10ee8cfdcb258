using MigrationOps.Engine.Moving;
using MigrationOps.Engine.Qmp;
using MigrationOps.Interop.Tests.Qmp;

namespace MigrationOps.Interop.Tests.Moving;

/// <summary>Moves of a real VM between two real QEMUs that share a disk.</summary>
public class MoveTests
{
    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task A_vm_moves_and_exactly_one_runs_it(string program)
    {
        await using var lab = await MoveLab.StartAsync(program);
        var end = await new MigrationMove(lab.Options()).RunAsync(CancellationToken.None);
        Assert.True(end.Failure is null, end.Failure?.Message);
        TestContext.Current.SendDiagnosticMessage($"{end.Result}\n{string.Join('\n', end.Result.Evidence)}\n{string.Join(", ", end.Result.DowntimeParts.Select(p => p.ToString()))}\n{File.ReadAllText(lab.JournalPath)}");
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Target);
        Assert.Equal((QemuMigrationOutcome.Completed, VMRunsAt.Target), (end.Result.Outcome, end.Result.RunsAt));
        Assert.Equal(0, lab.SourceProcess.WaitForExit());
        Assert.Equal(["Transfer", "Confirm", "Journal", "Start"], end.Result.DowntimeParts.Select(part => part.Name));
        var verdict = await lab.ResolveAsync(lab.Inspection() with { ConnectedTarget = lab.Target });
        Assert.Equal((VMRunsAt.Target, MigrationSafeAction.None), (verdict.RunsAt, verdict.SafeAction));
    }

    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task A_vm_that_was_paused_stays_paused(string program)
    {
        await using var lab = await MoveLab.StartAsync(program);
        await lab.Source.ExecuteAsync("stop");
        var end = await new MigrationMove(lab.Options()).RunAsync(CancellationToken.None);
        Assert.True(end.Failure is null, end.Failure?.Message);
        Assert.Equal((QemuMigrationOutcome.Completed, VMRunsAt.Nowhere), (end.Result.Outcome, end.Result.RunsAt));
        Assert.Equal("paused", (await lab.Target.ExecuteAsync("query-status")).Text("status"));
        await lab.Target.ExecuteAsync("cont");
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Target);
    }
}
