using System.Globalization;
using System.Text.Json;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>How the migration is to be done.</summary>
internal static class MigrationChecks
{
    // What the loader must know beforehand, because the stream has another form with it: in both directions, or only if the source has it.
    private static readonly string[] OfBothSides = ["multifd", "mapped-ram", "x-ignore-shared"];
    private static readonly string[] OfSource = ["compress", "postcopy-ram", "postcopy-preempt"];

    // What a migration sets by itself, unless the target listens already; the others stay as they are.
    private static readonly string[] SetByItself = ["events", "return-path", "multifd", "postcopy-ram", "pause-before-switchover", "auto-converge", "late-block-activate"];
    private static readonly string[] OfChannels = ["multifd-channels", "multifd-compression"];

    internal static IEnumerable<PreflightCheck> All =>
    [
        new("Blockers", QemuCheckGroup.Migration, Blockers),
        new("CommandSupport", QemuCheckGroup.Version, CommandSupport),
        new("CapabilitiesAgree", QemuCheckGroup.Migration, CapabilitiesAgree),
        new("ParametersAgree", QemuCheckGroup.Migration, ParametersAgree),
        new("ModeRules", QemuCheckGroup.Migration, ModeRules),
        new("BlockJobs", QemuCheckGroup.Storage, BlockJobs),
    ];

    private static Finding Blockers(PreflightFacts facts)
    {
        if (facts.Source["query-migrate"] is not { } migration)
        {
            return Finding.Unknown("The source does not tell what it refuses.");
        }

        string[] reasons = migration.Texts("blocked-reasons");
        return reasons.Length == 0 ? Finding.Passed()
            : Finding.Blocker($"QEMU refuses: {string.Join("; ", reasons)}", ActionFor(reasons[0])) with { Data = [.. reasons.Select(reason => Finding.Difference(QemuCheckStatus.Blocker, "blocked-reasons", reason, null))] };
    }

    // QEMU's words are not to be parsed; where they are known, the advice is better than they are.
    private static string ActionFor(string reason) => reason switch
    {
        _ when reason.Contains("VFIO", StringComparison.OrdinalIgnoreCase) => "Unplug the device, or use a target whose device and driver can migrate, by the list of VFIO devices.",
        _ when reason.Contains("LOG_SHMFD", StringComparison.Ordinal) => "Start a vhost-user back-end that can share its log of writes.",
        _ when reason.Contains("invtsc", StringComparison.OrdinalIgnoreCase) => "Give the VM tsc-frequency=HZ or -invtsc at its next boot, or migrate it when it is off.",
        _ when reason.Contains("ested", StringComparison.Ordinal) => "Stop the guest's own VMs first.",
        _ when reason.Contains("9p", StringComparison.OrdinalIgnoreCase) || reason.Contains("VirtFS", StringComparison.OrdinalIgnoreCase) => "Unmount the shared folder in the guest first.",
        _ when reason.Contains("lipboard", StringComparison.Ordinal) => "Disconnect the client that shares the clipboard.",
        _ => "Remove what the reason names (device_del), or migrate the VM when it is off.",
    };

    private static Finding? CommandSupport(PreflightFacts facts)
    {
        var missing = new List<string>();
        foreach (var (side, has) in new[] { ("source", Offers(facts.Source)), ("target", facts.Target is { } target ? Offers(target) : facts.Host is { } host ? name => host.MigrationCapabilities.Contains(name) || host.MigrationParameters.Contains(name) : null) })
        {
            if (has is not null)
            {
                missing.AddRange(Needed(facts.Options).Where(name => !has(name)).Select(name => $"{name} on the {side}"));
            }
        }

        return missing.Count == 0 ? Finding.Passed() : Finding.Blocker($"QEMU lacks what this way of migrating needs: {string.Join(", ", missing)}.", "Choose another mode, or update that QEMU.");
    }

    private static Func<string, bool> Offers(QemuFacts qemu)
        => name => qemu.Schema.ValuesOf("migrate-set-capabilities", "capabilities.capability").Contains(name) || qemu.Schema.HasArgument("migrate-set-parameters", name)
            || qemu.Schema.ValuesOf("migrate-set-parameters", "mode").Contains(name);

    private static IEnumerable<string> Needed(PreflightOptions options)
    {
        if (options.Channels > 0)
        {
            yield return "multifd";
        }

        switch (options.Mode)
        {
            case QemuMigrationMode.Postcopy:
                yield return "postcopy-ram";
                break;
            case QemuMigrationMode.CprReboot:
                yield return "cpr-reboot";
                break;
            case QemuMigrationMode.CprTransfer:
                yield return "cpr-transfer";
                break;
            case QemuMigrationMode.CprExec:
                yield return "cpr-exec";
                break;
        }
    }

    // A target that waits with defer takes what it is set to; one that listens already does not.
    private static bool IsFixed(QemuFacts target) => target["query-migrate"]?.Text("status") == "setup";

    private static Finding? CapabilitiesAgree(PreflightFacts facts)
    {
        if (facts.Target is not { } target)
        {
            return null;
        }

        if (facts.Source["query-migrate-capabilities"] is not { } here || target["query-migrate-capabilities"] is not { } there)
        {
            return Finding.Unknown("One side does not list its capabilities.");
        }

        var others = there.Items().Where(item => item.Text("capability") is not null).ToDictionary(item => item.Text("capability")!, item => item.Flag("state") == true, StringComparer.Ordinal);
        bool isFixed = IsFixed(target);
        var differences = here.Items().Select(item => (Name: item.Text("capability") ?? "", Source: Wanted(item.Text("capability"), item.Flag("state") == true, facts.Options)))
            .Where(item => others.GetValueOrDefault(item.Name) != item.Source)
            .Select(item => Finding.Difference((isFixed || !SetByItself.Contains(item.Name)) && (OfBothSides.Contains(item.Name) || (item.Source && OfSource.Contains(item.Name))) ? QemuCheckStatus.Blocker : QemuCheckStatus.Info, item.Name, OnOff(item.Source), others.TryGetValue(item.Name, out bool other) ? OnOff(other) : "not known")).ToList();
        return Finding.Of(differences,
            worst => worst[0].Status == QemuCheckStatus.Blocker ? $"The capability {worst[0].Name} is {worst[0].Source} at the source and {worst[0].Target} at the target: the stream does not fit." : "Capabilities differ; none of them changes the stream, or the migration sets it.",
            worst => worst[0].Status != QemuCheckStatus.Blocker ? "" : isFixed ? "Start the target again with -incoming defer, and set both alike (migrate-set-capabilities)." : "Set the capability alike on both sides (migrate-set-capabilities).");
    }

    private static bool Wanted(string? name, bool now, PreflightOptions options) => name switch
    {
        "multifd" when options.Channels > 0 => true,
        "postcopy-ram" when options.Mode == QemuMigrationMode.Postcopy => true,
        _ => now,
    };

    private static Finding? ParametersAgree(PreflightFacts facts)
    {
        if (facts.Target is not { } target || facts.Source["query-migrate-parameters"] is not { } here || target["query-migrate-parameters"] is not { } there)
        {
            return null;
        }

        bool hasChannels = facts.Options.Channels > 0 || TruthChecks.CapabilityOf(facts.Source, "multifd") == true;
        bool isFixed = IsFixed(target) && hasChannels;
        var differences = OfChannels.Select(name => (Name: name, Source: name == "multifd-channels" && facts.Options.Channels > 0 ? facts.Options.Channels.ToString(CultureInfo.InvariantCulture) : PropertyRules.Text(here.Member(name)), Target: PropertyRules.Text(there.Member(name))))
            .Where(pair => pair.Source != pair.Target && hasChannels)
            .Select(pair => Finding.Difference(isFixed ? QemuCheckStatus.Blocker : QemuCheckStatus.Info, pair.Name, pair.Source, pair.Target)).ToList();
        return Finding.Of(differences,
            worst => worst[0].Status == QemuCheckStatus.Blocker ? $"The target listens already with {worst[0].Name} {worst[0].Target}, and the source is to send with {worst[0].Source}." : "Parameters differ; the migration sets them on both sides.",
            worst => worst[0].Status == QemuCheckStatus.Blocker ? $"Start the target again with -incoming defer, or set the source alike on the monitor: migrate-set-parameters @{{ '{worst[0].Name}' = {worst[0].Target} }}" : "");
    }

    private static Finding ModeRules(PreflightFacts facts)
    {
        bool hasChannels = facts.Options.Channels > 0 || TruthChecks.CapabilityOf(facts.Source, "multifd") == true;
        bool isPostcopy = facts.Options.Mode == QemuMigrationMode.Postcopy || TruthChecks.CapabilityOf(facts.Source, "postcopy-ram") == true;
        // Since the version that tells its latency QEMU takes both.
        if (isPostcopy && hasChannels && !facts.Source.Schema.Returns("query-migrate", "postcopy-latency"))
        {
            return Finding.Blocker("This QEMU refuses postcopy together with multifd.", "Leave the channels out, or migrate without postcopy.");
        }

        if (isPostcopy && TruthChecks.CapabilityOf(facts.Source, "x-ignore-shared") == true)
        {
            return Finding.Blocker("QEMU refuses postcopy together with x-ignore-shared.", "Turn x-ignore-shared off on the monitor: migrate-set-capabilities");
        }

        if (facts.Options.Mode == QemuMigrationMode.CprTransfer && facts.Source["query-memdev"]?.Items().Any(backend => backend.Flag("share") == false) == true)
        {
            return Finding.Blocker("Memory stays in place with cpr-transfer, and a memory backend of the VM is not shared.", "Start the VM with share=on for its memory backends.");
        }

        return Finding.Passed();
    }

    private static Finding BlockJobs(PreflightFacts facts)
    {
        if (facts.Source["query-block-jobs"] is not { } running)
        {
            return Finding.Unknown("The source does not list its block jobs.");
        }

        var jobs = running.Items().Select(job => (Id: job.Text("device") ?? "", Type: job.Text("type") ?? "job"))
            .Where(job => !(facts.Options.CopyDisk && job.Type == "mirror")).ToArray();
        return jobs.Length == 0 ? Finding.Passed()
            : Finding.Blocker($"The job '{jobs[0].Id}' ({jobs[0].Type}) uses a disk that the migration has to give away.", $"Wait for it, or cancel it on the monitor: block-job-cancel @{{ device = '{jobs[0].Id}' }}").Of(string.Join(", ", jobs.Select(job => job.Id)), null);
    }

    private static string OnOff(bool value) => value ? "on" : "off";
}
