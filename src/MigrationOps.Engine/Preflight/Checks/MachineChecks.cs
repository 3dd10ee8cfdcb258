using System.Globalization;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>The programs and the machine.</summary>
internal static class MachineChecks
{
    private const string Suffix = "-machine";

    // The oldest QEMU that this version has been tried with.
    private static readonly QmpVersion Oldest = new(7, 2, 0, "");

    internal static IEnumerable<PreflightCheck> All =>
    [
        new("VersionPair", QemuCheckGroup.Version, VersionPair),
        new("Machine", QemuCheckGroup.Machine, Machine),
        new("MachineDeprecated", QemuCheckGroup.Machine, MachineDeprecated),
        new("Accelerator", QemuCheckGroup.Machine, Accelerator),
    ];

    /// <summary>The machine type with its version, as -M takes it; null if it is not told.</summary>
    internal static string? MachineOf(QemuFacts qemu)
        => qemu.Object("/machine") is { } machine ? machine.Type.EndsWith(Suffix, StringComparison.Ordinal) ? machine.Type[..^Suffix.Length] : machine.Type : null;

    private static Finding VersionPair(PreflightFacts facts)
    {
        var source = facts.Source.Version;
        string? text = facts.Target?.Version.ToString() ?? facts.Host?.Version;
        var target = facts.Target?.Version ?? ParseVersion(facts.Host);
        Finding finding = target is null ? Finding.Unknown("The version of the target's QEMU is not known.")
            : source.IsDevelopment || target.IsDevelopment ? Finding.Warning("A development version of QEMU may write another stream tomorrow.", "Use released versions.")
            : target.CompareTo(Oldest) < 0 || source.CompareTo(Oldest) < 0 ? Finding.Warning("A QEMU before 7.2 has not been tried with MigrationOps.", "Rehearse with a stream of the source: Test-MigrationStream")
            : (source.Major, source.Minor).CompareTo((target.Major, target.Minor)) > 0
                ? Finding.Warning("The target's QEMU is older than the source's: QEMU is tested the other way round.", "Update QEMU on the target first, or rehearse with a stream of the source: Test-MigrationStream")
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
