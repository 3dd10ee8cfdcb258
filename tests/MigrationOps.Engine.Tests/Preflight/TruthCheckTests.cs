using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Qmp;
using static MigrationOps.Engine.Tests.Preflight.PreflightLab;

namespace MigrationOps.Engine.Tests.Preflight;

public class TruthCheckTests
{
    [Theory]
    [InlineData("running", QemuCheckStatus.Passed)]
    [InlineData("paused", QemuCheckStatus.Info)]
    [InlineData("io-error", QemuCheckStatus.Warning)]
    [InlineData("postmigrate", QemuCheckStatus.Blocker)]
    [InlineData("inmigrate", QemuCheckStatus.Blocker)]
    [InlineData("finish-migrate", QemuCheckStatus.Blocker)]
    [InlineData("a state of tomorrow", QemuCheckStatus.Unknown)]
    public void The_state_of_the_source_decides(string state, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("SourceState", Source(("query-status", $$"""{"status": "{{state}}"}""")), Target())!.Status);

    [Theory]
    [InlineData("inmigrate", "{}", QemuCheckStatus.Passed)]
    [InlineData("inmigrate", """{"status": "setup", "socket-address": [{"type": "unix", "path": "/run/m"}]}""", QemuCheckStatus.Info)]
    [InlineData("inmigrate", """{"status": "failed"}""", QemuCheckStatus.Blocker)]
    [InlineData("inmigrate", """{"status": "active"}""", QemuCheckStatus.Blocker)]
    [InlineData("running", "{}", QemuCheckStatus.Blocker)]
    public void The_target_has_to_wait(string state, string migration, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("TargetState", Source(), Target(("query-status", $$"""{"status": "{{state}}"}"""), ("query-migrate", migration)))!.Status);

    [Theory]
    [InlineData("{}", QemuCheckStatus.Passed)]
    [InlineData("""{"status": "completed"}""", QemuCheckStatus.Passed)]
    [InlineData("""{"status": "active"}""", QemuCheckStatus.Blocker)]
    [InlineData("""{"status": "a status of tomorrow"}""", QemuCheckStatus.Blocker)]
    public void A_migration_that_is_under_way_is_left_alone(string migration, QemuCheckStatus expected)
        => Assert.Equal(expected, Assess("NoMigrationRunning", Source(("query-migrate", migration)), Target())!.Status);

    [Fact]
    public void Two_monitors_of_one_qemu_are_no_pair()
    {
        var process = new ProcessFacts { Id = 7, StartTime = 1, Arguments = ["/usr/bin/qemu-system-x86_64"] };
        Assert.Equal(QemuCheckStatus.Blocker, Assess("SameVm", Source() with { Process = process }, Target() with { Process = process })!.Status);
        Assert.Equal(QemuCheckStatus.Passed, Assess("SameVm", Source() with { Process = process }, Target() with { Process = process with { StartTime = 2 } })!.Status);
    }

    [Theory]
    [InlineData(false, QemuCheckStatus.Warning)]
    [InlineData(true, QemuCheckStatus.Blocker)]
    public void Another_uuid_is_refused_only_if_qemu_looks_at_it(bool validates, QemuCheckStatus expected)
    {
        var source = Source(("query-uuid", """{"UUID": "11112222-3333-4444-5555-666677778888"}"""),
            ("query-migrate-capabilities", $$"""[{"capability": "validate-uuid", "state": {{(validates ? "true" : "false")}}}]"""));
        var check = Assess("SameVm", source, Target())!;
        Assert.Equal((expected, "Start the target with -uuid 11112222-3333-4444-5555-666677778888."), (check.Status, check.RecommendedAction));
    }

    [Fact]
    public void A_target_that_does_not_answer_is_a_blocker_and_nothing_about_it_passes()
    {
        var failure = new QmpException(QmpError.MonitorBusy, "virsh (pid 7) is connected to this monitor.") { Target = "/run/target.qmp" };
        var report = PreflightTest.Assess(new PreflightFacts { Source = Source(), TargetFailure = failure, Options = new PreflightOptions() }, DateTime.UnixEpoch, TimeSpan.Zero);
        Assert.False(report.CanMigrate);
        Assert.Equal("/run/target.qmp", report.Target);
        Assert.Contains(report.Checks, check => check is { Name: "MonitorReach", Status: QemuCheckStatus.Blocker } && check.Detail.Contains("pid 7", StringComparison.Ordinal));
        Assert.Contains(report.Checks, check => check is { Name: "TargetState", Status: QemuCheckStatus.Unknown });
    }

    [Fact]
    public void An_unknown_of_the_group_truth_stops_a_migration_and_another_does_not()
    {
        Assert.False(ReportOf(Source(("query-status", "{}"))).CanMigrate);
        var report = ReportOf(Source());
        Assert.True(report.Unknown > 0 && report.CanMigrate, report.ToString());

        static QemuMigrationReport ReportOf(QemuFacts source)
            => PreflightTest.Assess(new PreflightFacts { Source = source, Target = Target(), Options = new PreflightOptions() }, DateTime.UnixEpoch, TimeSpan.Zero);
    }

    [Fact]
    public void Checks_have_names_of_their_own_and_those_that_are_skipped_are_not_there()
    {
        Assert.Equal(PreflightTest.Checks.Count, PreflightTest.Checks.Select(check => check.Name).Distinct().Count());
        var report = PreflightTest.Assess(new PreflightFacts { Source = Source(), Target = Target(), Options = new PreflightOptions { Skip = ["cpu*", "RamBlocks"] } }, DateTime.UnixEpoch, TimeSpan.Zero);
        Assert.DoesNotContain(report.Checks, check => check.Name.StartsWith("Cpu", StringComparison.Ordinal) || check.Name == "RamBlocks");
    }
}
