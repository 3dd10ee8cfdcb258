using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>Who is asked, and which side runs.</summary>
internal static class TruthChecks
{
    // In these the guest can be sent; what else QEMU calls a state is named and not judged.
    private static readonly string[] Sendable = ["running", "paused", "suspended", "prelaunch", "debug", "guest-panicked", "shutdown", "watchdog"];
    private static readonly string[] NotSendable = ["inmigrate", "postmigrate", "finish-migrate", "internal-error", "save-vm", "restore-vm", "colo", "preconfig"];
    private static readonly string[] Ended = ["none", "completed", "failed", "cancelled"];

    internal static IEnumerable<PreflightCheck> All =>
    [
        new("MonitorReach", QemuCheckGroup.Truth, MonitorReach),
        new("SameVm", QemuCheckGroup.Truth, SameVm),
        new("SourceState", QemuCheckGroup.Truth, SourceState),
        new("TargetState", QemuCheckGroup.Truth, TargetState),
        new("NoMigrationRunning", QemuCheckGroup.Truth, NoMigrationRunning),
    ];

    /// <summary>The VM's UUID; null if it has none.</summary>
    internal static string? UuidOf(QemuFacts qemu) => qemu["query-uuid"]?.Text("UUID") is { } uuid && uuid.Any(letter => letter is not ('0' or '-')) ? uuid : null;

    private static string? StateOf(QemuFacts qemu) => qemu["query-status"]?.Text("status");

    private static Finding MonitorReach(PreflightFacts facts)
    {
        if (facts.TargetFailure is { } failure)
        {
            return Finding.Blocker(failure.Message, failure.RecommendedAction).Of(facts.Source.Name, facts.TargetName);
        }

        return Finding.Passed(facts.Target is null ? "The target is a host; its QEMU is started with the migration." : "").Of(facts.Source.Name, facts.TargetName);
    }

    private static Finding SameVm(PreflightFacts facts)
    {
        if (facts.Target is not { } target)
        {
            return Finding.Passed().Of(UuidOf(facts.Source), null);
        }

        if (facts.Source.Process is { ProgramIndex: >= 0 } here && target.Process is { } there && (here.Id, here.StartTime) == (there.Id, there.StartTime))
        {
            return Finding.Blocker("Both monitors are of the same QEMU.", "Give the monitor of the QEMU that waits with -incoming.").Of($"pid {here.Id}", $"pid {there.Id}");
        }

        if (facts.Source["query-uuid"] is null || target["query-uuid"] is null)
        {
            return Finding.Unknown("One side does not tell its UUID.");
        }

        var (source, other) = (UuidOf(facts.Source), UuidOf(target));
        if (source == other)
        {
            return Finding.Passed().Of(source, other);
        }

        // QEMU compares them only with the capability validate-uuid.
        bool validates = CapabilityOf(facts.Source, "validate-uuid") == true;
        string text = "The UUIDs differ: it may be the target of another VM.";
        string action = source is null ? "Start the target without -uuid." : $"Start the target with -uuid {source}.";
        return (validates ? Finding.Blocker(text, action) : Finding.Warning(text, action)).Of(source ?? "no UUID", other ?? "no UUID");
    }

    private static Finding SourceState(PreflightFacts facts)
    {
        string? state = StateOf(facts.Source);
        Finding finding = state switch
        {
            null => Finding.Unknown("The source does not tell its state."),
            "io-error" => Finding.Warning("The guest is stopped because of an error of a disk; it stays stopped on the target.", "Free the space or repair the disk, then continue on the monitor: cont"),
            "postmigrate" => Finding.Blocker("The VM has been migrated already; the other side may run.", "Find out which side runs. If it is this one, continue on the monitor: cont"),
            "inmigrate" => Finding.Blocker("This QEMU waits for a VM itself.", "Give the monitor of the QEMU that runs the VM."),
            "internal-error" => Finding.Blocker("KVM has failed for this VM; QEMU does not migrate it.", "Look into QEMU's log, and reset the VM on the monitor: system_reset"),
            _ when NotSendable.Contains(state) => Finding.Blocker($"A VM in the state '{state}' cannot be migrated.", "Wait until it has left this state, and test again."),
            _ when Sendable.Contains(state) => state == "running" ? Finding.Passed() : Finding.Info($"The VM is {state}, and stays so on the target."),
            _ => Finding.Unknown($"The state '{state}' is not known to this version of MigrationOps."),
        };
        return finding.Of(state, null);
    }

    private static Finding TargetState(PreflightFacts facts)
    {
        if (facts.Target is not { } target)
        {
            return facts.TargetFailure is null ? Finding.Info("No QEMU waits there yet: what its command line decides (memory, devices, disks) is not compared.") : Finding.Unknown("The target does not answer.");
        }

        string? state = StateOf(target), migration = target["query-migrate"]?.Text("status");
        const string Again = "Start the target again with -incoming defer.";
        Finding finding = (state, migration) switch
        {
            (null, _) => Finding.Unknown("The target does not tell its state."),
            _ when target["query-migrate"] is null => Finding.Unknown("The target does not tell whether a migration is under way."),
            ("inmigrate", null or "none") => Finding.Passed(),
            ("inmigrate", "setup") => Finding.Info($"It listens already ({string.Join(", ", Listening(target))}); its capabilities can no longer be set.", Again),
            ("inmigrate", "failed") => Finding.Blocker("A migration into this QEMU has failed; it takes no second one.", Again),
            ("inmigrate", _) => Finding.Blocker($"A migration into this QEMU is under way ({migration}).", Again),
            _ => Finding.Blocker($"It does not wait for a VM: its state is '{state}'.", Again),
        };
        return finding.Of(null, migration is null ? state : $"{state}, {migration}");
    }

    private static Finding NoMigrationRunning(PreflightFacts facts)
    {
        if (facts.Source["query-migrate"] is not { } migration)
        {
            return Finding.Unknown("The source does not tell whether it migrates.");
        }

        string? status = migration.Text("status");
        return (status is null || Ended.Contains(status)
            ? Finding.Passed()
            : Finding.Blocker($"A migration of this VM is under way ({status}).", "Wait until it has ended, or cancel it on the monitor: migrate_cancel")).Of(status, null);
    }

    /// <summary>Where a target listens that was not started with defer.</summary>
    internal static IEnumerable<string> Listening(QemuFacts target) => (target["query-migrate"]?.Items("socket-address") ?? [])
        .Select(address => address.Text("path") is { } path ? $"unix:{path}" : $"tcp:{address.Text("host")}:{address.Text("port")}");

    /// <summary>Whether a migration capability is on; null if the QEMU has none of that name.</summary>
    internal static bool? CapabilityOf(QemuFacts qemu, string name)
        => qemu["query-migrate-capabilities"]?.Items().Where(capability => capability.Text("capability") == name).Select(capability => capability.Flag("state")).FirstOrDefault();
}
