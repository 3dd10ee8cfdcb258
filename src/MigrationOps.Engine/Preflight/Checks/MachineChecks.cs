using System.Globalization;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>The programs and the machine.</summary>
internal static class MachineChecks
{
    private const string Suffix = "-machine";

    // What has its own check, and what the guest or time changes.
    private static readonly HashSet<string> OfOthers = ["rtc-time", "acpi-device", "memory", "smp", "type", "memory-backend", "accel", "max-ram-below-4g", "smp-cache", "sgx-epc", "cxl-fmw"];

    private static readonly HashSet<string> OfHost = ["kernel", "initrd", "append", "dtb", "dumpdtb", "firmware", "pflash0", "pflash1", "dump-guest-core", "mem-merge", "boot", "graphics", "pcspk-audiodev", "phandle-start", "suppress-vmdesc", "confidential-guest-support", "memory-encryption"];

    // The oldest QEMU that this version has been tried with.
    private static readonly QmpVersion Oldest = new(7, 2, 0, "");

    internal static IEnumerable<PreflightCheck> All =>
    [
        new("VersionPair", QemuCheckGroup.Version, VersionPair),
        new("Machine", QemuCheckGroup.Machine, Machine),
        new("MachineDeprecated", QemuCheckGroup.Machine, MachineDeprecated),
        new("MachineOptions", QemuCheckGroup.Machine, MachineOptions),
        new("Accelerator", QemuCheckGroup.Machine, Accelerator),
    ];

    /// <summary>The machine type with its version, as -M takes it; null if it is not told.</summary>
    internal static string? MachineOf(QemuFacts qemu)
        => qemu.Object("/machine") is { } machine && machine.Type.EndsWith(Suffix, StringComparison.Ordinal) ? machine.Type[..^Suffix.Length] : null;

    private static Finding VersionPair(PreflightFacts facts)
    {
        var source = facts.Source.Version;
        string? text = facts.Target?.Version.ToString() ?? facts.Host?.Version;
        var target = facts.Target?.Version ?? ParseVersion(facts.Host);
        Finding finding = target is null ? Finding.Unknown("The version of the target's QEMU is not known.")
            : source.IsDevelopment || target.IsDevelopment ? Finding.Warning("A development version of QEMU may write another stream tomorrow.", "Use released versions.")
            : target.CompareTo(Oldest) < 0 || source.CompareTo(Oldest) < 0 ? Finding.Warning("A QEMU before 7.2 has not been tried with MigrationOps.", "Rehearse with a stream of the source.")
            : (source.Major, source.Minor).CompareTo((target.Major, target.Minor)) > 0
                ? Finding.Warning("The target's QEMU is older than the source's: QEMU is tested the other way round.", "Update QEMU on the target first, or rehearse with a stream of the source.")
            : Finding.Passed();
        return finding.Of(source.ToString(), text);
    }

    private static QmpVersion? ParseVersion(QemuHost? host)
        => host is not null && Version.TryParse(host.Version, out var version) ? new QmpVersion(version.Major, version.Minor, Math.Max(version.Build, 0), host.Package) : null;

    private static Finding? Machine(PreflightFacts facts)
    {
        string? here = MachineOf(facts.Source);
        if (facts.Target is { } target)
        {
            string? there = MachineOf(target);
            return (here is null || there is null ? Finding.Unknown("One side does not tell its machine type.")
                : here == there ? Finding.Passed()
                : Finding.Blocker("The machine types differ; QEMU refuses the stream at its beginning.", $"Start the target with -M {here}")).Of(here, there);
        }

        if (facts.Host is not { } host)
        {
            return null;
        }

        return (here is null ? Finding.Unknown("The source does not tell its machine type.")
            : host.Machines.Any(machine => machine.Name == here) ? Finding.Passed()
            : Finding.Blocker($"The QEMU of {host.Name} has no such machine type.", $"Install a QEMU on {host.Name} that has {here}")).Of(here, host.Machines.FirstOrDefault(machine => machine.Name == here)?.Name ?? "");
    }

    private static Finding? MachineDeprecated(PreflightFacts facts)
    {
        string? here = MachineOf(facts.Source);
        bool isDeprecated = facts.Target?["query-machines"] is { } machines
            ? machines.Items().Any(machine => machine.Text("name") == here && machine.Flag("deprecated") == true)
            : facts.Host?.Machines.Any(machine => machine.Name == here && machine.Deprecated) == true;
        return facts.Target is null && facts.Host is null ? null
            : isDeprecated ? Finding.Info($"QEMU is going to drop the machine type {here}.", "Give the VM a newer machine type at its next cold boot.").Of(here, here) : Finding.Passed();
    }

    // Options that make devices or blocks of memory show there; of the others none is in the stream, but for the slots of memory.
    private static Finding? MachineOptions(PreflightFacts facts)
    {
        if (facts.Source.Object("/machine") is not { } here || facts.Target?.Object("/machine") is not { } there || here.Type != there.Type)
        {
            return null;
        }

        var differences = here.Properties.Keys.Where(name => !OfOthers.Contains(name) && there[name] is not null && PropertyRules.Text(here[name]) != PropertyRules.Text(there[name])).Order(StringComparer.Ordinal)
            .Select(name => Finding.Difference(OfHost.Contains(name) ? QemuCheckStatus.Info : QemuCheckStatus.Warning, name, PropertyRules.Text(here[name]), PropertyRules.Text(there[name]))).ToList();
        // Without slots QEMU leaves the member out.
        long? slots = here["memory"] is { } memory ? memory.Number("slots") ?? 0 : null, others = there["memory"] is { } memoryThere ? memoryThere.Number("slots") ?? 0 : null;
        if (slots is { } number && others is { } numberThere && number != numberThere)
        {
            differences.Add(Finding.Difference(QemuCheckStatus.Blocker, "memory slots", number.ToString(CultureInfo.InvariantCulture), numberThere.ToString(CultureInfo.InvariantCulture)));
        }

        return Finding.Of(differences,
            worst => worst[0].Status == QemuCheckStatus.Blocker ? "The machines have another number of slots for memory; the state of memory hot-plug does not fit."
                : $"Options of the machine differ: {string.Join(", ", worst.Take(5))}.",
            worst => worst[0].Status switch
            {
                QemuCheckStatus.Blocker => $"Start the target with the source's -m (slots={worst[0].Source}).",
                QemuCheckStatus.Warning => $"Start the target with -M {MachineOf(facts.Source)},{string.Join(',', worst.Take(5).Select(difference => $"{difference.Name}={difference.Source}"))}",
                _ => "",
            });
    }

    private static Finding? Accelerator(PreflightFacts facts)
    {
        string? here = AcceleratorOf(facts.Source), there = facts.Target is { } target ? AcceleratorOf(target) : facts.Host?.Accelerator;
        return there is null && facts.Target is null ? null
            : (here is null || there is null ? Finding.Unknown("One side does not tell its accelerator.")
            : here == there ? Finding.Passed()
            : Finding.Warning("The accelerators differ: devices and CPU state of one may be missing in the other.", $"Start the target with -accel {here}")).Of(here, there);
    }

    private static string? AcceleratorOf(QemuFacts qemu)
        => qemu["query-accelerators"]?.Text("enabled")
            ?? (qemu["query-kvm"]?.Flag("enabled") switch { true => "kvm", false => "tcg", null => null });
}
