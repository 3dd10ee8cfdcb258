using MigrationOps.Engine.Moving;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Interop.Tests.Qmp;

namespace MigrationOps.Interop.Tests.Moving;

/// <summary>A migration that does not converge, one that is held, one that goes into a file, and other ways through.</summary>
public class SteeringTests
{
    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task A_migration_that_stalls_gets_the_downtime_that_it_takes(string program)
    {
        await using var lab = await MoveLab.StartAsync(program, pages: WritingFirmware.MostPages);
        var end = await new MigrationMove(Stalling(lab, MigrationStallAction.RaiseDowntime)).RunAsync(CancellationToken.None);
        Assert.True(end.Failure is null, end.Failure?.Message);

        // A guest that a busy host keeps from running converges by itself before enough passes could be compared.
        Assert.True(end.Result.Passes <= 6 || end.Result.Actions is [var action] && action.Contains("raised the downtime limit"), $"{end.Result.Passes} passes, {string.Join("; ", end.Result.Actions)}");
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Target);
    }

    [Fact]
    public async Task A_migration_that_stalls_is_given_up_when_nothing_else_is_allowed()
    {
        await using var lab = await MoveLab.StartAsync("qemu-system-x86_64", pages: WritingFirmware.MostPages);
        var end = await new MigrationMove(Stalling(lab, MigrationStallAction.Cancel)).RunAsync(CancellationToken.None);
        Assert.Equal((MoveError.NotConverging, VMRunsAt.Source), (end.Failure?.Reason, end.Result.RunsAt));
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Source);
    }

    [Fact]
    public async Task A_migration_that_stalls_is_completed_with_the_guest_paused_which_runs_afterwards()
    {
        await using var lab = await MoveLab.StartAsync("qemu-system-x86_64", pages: WritingFirmware.MostPages);
        var end = await new MigrationMove(Stalling(lab, MigrationStallAction.Pause)).RunAsync(CancellationToken.None);
        Assert.True(end.Failure is null, end.Failure?.Message);
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Target);
    }

    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task A_migration_that_stalls_becomes_postcopy_and_one_runs(string program)
    {
        await using var lab = await MoveLab.StartAsync(program, pages: WritingFirmware.MostPages);
        uint atCommit = 0;
        var end = await new MigrationMove(Stalling(lab, MigrationStallAction.Postcopy) with
        {
            OnRecord = record =>
            {
                atCommit = record.Record == MoveRecordKind.Commit ? lab.Disk.Source.Counter : atCommit;
                return Task.CompletedTask;
            },
        }).RunAsync(CancellationToken.None);
        Assert.True(end.Failure is null, $"{end.Failure?.Message}\n{lab.TargetProcess.Output}\n{lab.SourceProcess.Output}");
        Assert.Equal(VMRunsAt.Target, end.Result.RunsAt);
        lab.SourceProcess.WaitForExit();
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Target);

        // The write that the switch interrupted is the target's to finish.
        Assert.InRange(lab.Disk.Source.Counter, atCommit, atCommit + 1);
    }

    [Fact]
    public async Task A_held_migration_waits_for_a_word()
    {
        await using var lab = await MoveLab.StartAsync("qemu-system-x86_64");
        var held = new TaskCompletionSource();
        var move = new MigrationMove(lab.Options() with
        {
            Hold = true,
            OnRecord = record =>
            {
                if (record.Phase == MovePhase.Held)
                {
                    held.SetResult();
                }

                return Task.CompletedTask;
            },
        });
        var running = move.RunAsync(CancellationToken.None);
        await held.Task.WaitAsync(Waiting.Patience);
        Assert.False(running.IsCompleted);
        move.Continue();
        var end = await running.WaitAsync(Waiting.Patience);
        Assert.True(end.Failure is null, end.Failure?.Message);
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Target);
    }

    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task A_vm_is_saved_to_a_file_from_which_it_continues(string program)
    {
        await using var lab = await MoveLab.StartAsync(program);
        string file = lab.File("vm.stream");
        bool hasFiles = (await lab.Source.GetSchemaAsync()).HasArgument("migrate", "channels");
        var options = lab.Options() with { Target = null, Mode = QemuMigrationMode.File, Uri = "file:" + file };
        var end = await new MigrationMove(options).RunAsync(CancellationToken.None);
        if (!hasFiles)
        {
            // QEMU 7.2 knows no file: addresses; it says so, and the guest runs on.
            Assert.Equal((MoveError.MigrationFailed, VMRunsAt.Source), (end.Failure?.Reason, end.Result.RunsAt));
            lab.Disk.AssertRunsOnlyAt(VMRunsAt.Source);
            return;
        }

        Assert.True(end.Failure is null, end.Failure?.Message);
        Assert.Equal((QemuMigrationOutcome.Saved, VMRunsAt.Nowhere, MigrationSafeAction.None), (end.Result.Outcome, end.Result.RunsAt, end.Result.SafeAction));
        await lab.Target.ExecuteAsync("migrate-incoming", new System.Text.Json.Nodes.JsonObject { ["uri"] = "file:" + file });
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Target);
    }

    [Theory]
    [MemberData(nameof(MonitorTests.Programs), MemberType = typeof(MonitorTests))]
    public async Task Memory_goes_over_several_channels(string program)
    {
        await using var lab = await MoveLab.StartAsync(program, pages: WritingFirmware.MostPages);
        var end = await new MigrationMove(lab.Options() with { Channels = 2, Compression = "zlib" }).RunAsync(CancellationToken.None);
        Assert.True(end.Failure is null, end.Failure?.Message);
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Target);
    }

    [Fact]
    public async Task What_cannot_be_is_said_before_anything_is_changed()
    {
        await using var lab = await MoveLab.StartAsync("qemu-system-x86_64");
        var same = await Assert.ThrowsAsync<MoveException>(() => new MigrationMove(lab.Options() with { Target = lab.Source }).RunAsync(CancellationToken.None));
        Assert.Equal(MoveError.WrongPair, same.Reason);
        var turned = await Assert.ThrowsAsync<MoveException>(() => new MigrationMove(lab.Options() with { Source = lab.Target, Target = lab.Source }).RunAsync(CancellationToken.None));
        Assert.Equal(MoveError.SourceState, turned.Reason);
        var plain = await Assert.ThrowsAsync<Engine.Wire.WireException>(() => new MigrationMove(lab.Options() with { Uri = "tcp:192.0.2.1:0" }).RunAsync(CancellationToken.None));
        Assert.Equal(Engine.Wire.WireError.PlaintextRefused, plain.Reason);
        Assert.False(File.Exists(lab.JournalPath));
        lab.Disk.AssertRunsOnlyAt(VMRunsAt.Source);
    }

    // Half a megabyte changes in each millisecond, and two are sent in a second.
    private static MoveOptions Stalling(MoveLab lab, MigrationStallAction action) => lab.Options() with
    {
        MaxBandwidth = 2_000_000,
        DowntimeLimit = TimeSpan.FromMilliseconds(1),
        MaxDowntime = TimeSpan.FromSeconds(5),
        OnStall = [action],
    };
}
