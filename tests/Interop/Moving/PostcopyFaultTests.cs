using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Moving;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Interop.Tests.Qmp;

namespace MigrationOps.Interop.Tests.Moving;

/// <summary>What breaks while the guest fetches its memory from the source.</summary>
public class PostcopyFaultTests
{
    private const int MostAttempts = 10;

    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task After_a_cut_the_guest_is_the_targets_and_resumes(string program)
    {
        var (started, end) = await BreakInTimeAsync(program, static (_, relay) => relay.Cut());
        await using var lab = started;
        Assert.Equal((VMRunsAt.Target, MigrationSafeAction.RecoverPostcopy), (end.Result.RunsAt, end.Result.SafeAction));
        await PostcopyRecovery.RunAsync(lab.Source, lab.Target, "tcp:127.0.0.1:0", 5, TimeSpan.FromSeconds(1), Waiting.Patience, NullLogger.Instance, CancellationToken.None);
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Target);
        await lab.DisconnectAsync();
        var repaired = await MoveRepair.RunAsync(lab.Inspection(), Waiting.Patience, CancellationToken.None);
        Assert.Equal((VMRunsAt.Target, MigrationSafeAction.None), (repaired.RunsAt, repaired.SafeAction));
        lab.SourceProcess.WaitForExit();
    }

    [Fact]
    public async Task After_the_sources_death_the_guest_is_lost_and_the_target_is_left_alone()
    {
        var (started, end) = await BreakInTimeAsync("qemu-system-x86_64", static (lab, _) => lab.SourceProcess.Kill());
        await using var lab = started;
        Assert.Equal((VMRunsAt.Target, MigrationSafeAction.Decide), (end.Result.RunsAt, end.Result.SafeAction));
        Assert.Contains("the guest is lost", end.Failure!.Message + end.Result.Reason);
        Assert.False(lab.TargetProcess.HasExited);
    }

    // A guest may have fetched all its memory before the break comes, which happens with 7.2: then nothing is left to recover.
    private static async Task<(MoveLab Lab, MoveEnd End)> BreakInTimeAsync(string program, Action<MoveLab, TestRelay> fail)
    {
        for (int attempt = 1; ; attempt++)
        {
            var lab = await MoveLab.StartAsync(program, pages: WritingFirmware.MostPages);
            var end = await BreakAsync(lab, fail);
            if (end.Result.SafeAction != MigrationSafeAction.None || attempt == MostAttempts)
            {
                return (lab, end);
            }

            await lab.DisposeAsync();
        }
    }

    // What the guest does not ask for comes slowly, so that it needs the source when it runs.
    private static async Task<MoveEnd> BreakAsync(MoveLab lab, Action<MoveLab, TestRelay> fail)
    {
        TestRelay? relay = null;
        await lab.Source.ExecuteAsync("migrate-set-parameters", new JsonObject { ["max-postcopy-bandwidth"] = 20_000 });
        var end = await new MigrationMove(lab.Options() with
        {
            MaxBandwidth = 2_000_000,
            DowntimeLimit = TimeSpan.FromMilliseconds(1),
            OnStall = [MigrationStallAction.Postcopy],
            Route = target => ValueTask.FromResult((relay = new TestRelay(target)).Uri),
            OnRecord = record =>
            {
                if (record.Record == MoveRecordKind.Running)
                {
                    fail(lab, relay!);
                }

                return Task.CompletedTask;
            },
        }).RunAsync(CancellationToken.None).WaitAsync(Waiting.Patience);
        relay!.Dispose();
        return end;
    }
}
