using System.Globalization;
using System.Numerics;
using System.Text.Json;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>The guest's CPUs.</summary>
internal static class CpuChecks
{
    // Flags of QEMU's model that are no feature of the guest's CPU.
    private static readonly HashSet<string> NoFeatures =
    [
        "hotplugged", "hotpluggable", "realized", "start-powered-off", "unimplemented-xcr0-mask", "migratable", "enforce", "check", "fill-mtrr-mask", "full-cpuid-auto-level", "host-cache-info", "host-phys-bits", "cpuid-0xb", "kvm",
        "l3-cache", "legacy-cache", "legacy-multi-node", "lmce", "memory", "pmu", "tcg-cpuid", "vmware-cpuid-freq", "hv-passthrough", "legacy-instance-id", "xen-vapic", "ht", "cmp-legacy",
    ];

    // Bits that say how CPUs are arranged, which is CpuTopology's matter: HTT and CmpLegacy.
    private static readonly Dictionary<(uint Leaf, string Register), uint> OfTopology = new() { [(1, "EDX")] = 1u << 28, [(0x80000001, "ECX")] = 1u << 1 };

    internal static IEnumerable<PreflightCheck> All =>
    [
        new("CpuModel", QemuCheckGroup.Machine, CpuModel),
        new("CpuFeatures", QemuCheckGroup.Machine, CpuFeatures),
        new("CpuTopology", QemuCheckGroup.Machine, CpuTopology),
        new("CpuProperties", QemuCheckGroup.Machine, CpuProperties),
    ];

    /// <summary>The first CPU with its properties; null if it was not read.</summary>
    internal static QomObject? FirstOf(QemuFacts? qemu)
        => qemu?.Objects?.FirstOrDefault(found => found.Type.EndsWith("-cpu", StringComparison.Ordinal) && found.Properties.Count > 0);

    /// <summary>True if the words of features differ.</summary>
    internal static bool HasOtherFeatures(QemuFacts source, QemuFacts target)
        => WordsOf(FirstOf(source)) is { } here && WordsOf(FirstOf(target)) is { } there && here.Any(word => there.GetValueOrDefault(word.Key) != word.Value);

    private static string? ModelOf(QomObject? cpu)
        => cpu is null ? null : cpu.Type[..cpu.Type.LastIndexOf('-')] is var type && type.LastIndexOf('-') is > 0 and var dash ? type[..dash] : cpu.Type;

    private static Finding? CpuModel(PreflightFacts facts)
    {
        string? here = ModelOf(FirstOf(facts.Source));
        if (facts.Target is not null)
        {
            string? there = ModelOf(FirstOf(facts.Target));
            return (here is null || there is null ? Finding.Unknown("The CPU model of one side is not known.")
                : here == there ? here is "host" or "max" && facts.Source.Version != facts.Target.Version
                    ? Finding.Info($"The model '{here}' is what the host and its QEMU have: it is not the same everywhere.") : Finding.Passed()
                : Finding.Warning("The CPU models differ: after the migration the guest runs on another CPU than it knows.", $"Start the target with the source's -cpu ({here} and its features).")).Of(here, there);
        }

        if (facts.Host is not { } host || here is null)
        {
            return null;
        }

        var model = host.CpuModels.FirstOrDefault(found => found.Name == here);
        return (model is null ? Finding.Blocker($"The QEMU of {host.Name} has no CPU model '{here}'.", $"Update QEMU on {host.Name}, or give the VM a model that all hosts have at its next cold boot.")
            : model.UnavailableFeatures is { Length: > 0 } missing ? Finding.Warning($"{host.Name} lacks features of the model: {string.Join(", ", missing.Take(6))}.", "Give the VM a model that all hosts have whole at its next cold boot.")
            : Finding.Passed()).Of(here, model?.Name);
    }

    private static Finding? CpuFeatures(PreflightFacts facts)
    {
        if (WordsOf(FirstOf(facts.Source)) is not { Count: > 0 } here)
        {
            return null;
        }

        var there = facts.Target is not null ? WordsOf(FirstOf(facts.Target))
            : facts.Host?.CpuWords.ToDictionary(word => (word.Leaf, word.Subleaf, word.Register), word => word.Bits);
        if (there is null or { Count: 0 })
        {
            return facts.Target is null ? null : Finding.Unknown("The target does not tell its CPU's features.");
        }

        var differences = new List<QemuMigrationDifference>();
        foreach (var (word, bits) in here.OrderBy(pair => pair.Key.Leaf))
        {
            uint ignored = OfTopology.GetValueOrDefault((word.Leaf, word.Register));
            uint other = there.GetValueOrDefault(word) | ignored;
            if ((bits & ~other) is > 0 and var lost)
            {
                differences.Add(Finding.Difference(QemuCheckStatus.Blocker, NameOf(word), Bits(lost), null));
            }

            // A host offers more than a VM has; a QEMU that waits has what its guest will see.
            if (facts.Target is not null && (other & ~ignored & ~bits) is > 0 and var gained)
            {
                differences.Add(Finding.Difference(QemuCheckStatus.Info, NameOf(word), null, Bits(gained)));
            }
        }

        var (lostNames, _) = FlagsOf(FirstOf(facts.Source), FirstOf(facts.Target));
        string names = lostNames.Count == 0 ? "" : ": " + string.Join(", ", lostNames.Take(8)) + (lostNames.Count > 8 ? string.Create(CultureInfo.InvariantCulture, $" and {lostNames.Count - 8} more") : "");
        return Finding.Of(differences,
            worst => worst[0].Status == QemuCheckStatus.Blocker
                ? $"The target's CPU lacks features that the guest has{names}. QEMU loads the state, but a guest that uses them does not survive."
                : "The target's CPU has features that the guest does not know of.",
            worst => worst[0].Status != QemuCheckStatus.Blocker ? ""
                : lostNames.Count > 0 ? $"Start the target with the source's -cpu, or give the VM at its next boot: -cpu {ModelOf(FirstOf(facts.Source))},{string.Join(',', lostNames.Select(name => $"-{name}"))}"
                : "Start the target with the source's -cpu, or give the VM a model that both hosts have at its next cold boot.");
    }

    private static Finding? CpuTopology(PreflightFacts facts)
    {
        if (facts.Source["query-cpus-fast"] is not { } cpus)
        {
            return null;
        }

        int count = cpus.Items().Count();
        string text = string.Create(CultureInfo.InvariantCulture, $"{count} CPUs");
        if (facts.Target is not { } target)
        {
            int? most = facts.Host?.Machines.FirstOrDefault(machine => machine.Name == MachineChecks.MachineOf(facts.Source))?.MaximumCpus;
            return most < count ? Finding.Blocker($"That machine can have {most} CPUs there.", "Choose a host with a newer QEMU.").Of(text, $"{most} CPUs") : null;
        }

        if (target["query-cpus-fast"] is not { } others)
        {
            return Finding.Unknown("The target does not list its CPUs.").Of(text, null);
        }

        var missing = Indexes(cpus).Except(Indexes(others)).Order().ToArray();
        var extra = Indexes(others).Except(Indexes(cpus)).Order().ToArray();
        var (here, there) = (Topology(facts.Source), Topology(target));
        Finding finding = missing.Length > 0
                ? Finding.Blocker($"The target lacks the CPUs {string.Join(", ", missing)}.", $"Start the target with -smp {count}, or plug them there as they were plugged on the source, on the monitor: device_add")
            : extra.Length > 0 ? Finding.Warning("The target has more CPUs; the guest does not know of them.", $"Start the target with -smp {count}.")
            : HasApic(facts.Source) != HasApic(target) ? Finding.Blocker("The CPUs have a local APIC on one side only.", "Start the target with the source's -cpu.")
            : here != there ? Finding.Warning("Sockets, cores or threads differ: the guest keeps what it knows until its next boot.", $"Start the target with -smp {here}")
            : Finding.Passed();
        return finding.Of($"{text} {here}".TrimEnd(), $"{others.Items().Count()} CPUs {there}".TrimEnd());
    }

    private static Finding? CpuProperties(PreflightFacts facts)
    {
        if (FirstOf(facts.Source) is not { } here || FirstOf(facts.Target) is not { } there)
        {
            return null;
        }

        string[] wanted = ["phys-bits", "tsc-frequency", "invtsc", "level", "xlevel", "family", "model", "stepping", "vendor"];
        var differences = wanted.Concat(here.Properties.Keys.Where(name => name.StartsWith("hv-", StringComparison.Ordinal) || name.StartsWith("kvm-", StringComparison.Ordinal)))
            .Select(name => (name, Source: PropertyRules.Text(here[name]), Target: PropertyRules.Text(there[name])))
            .Where(pair => pair.Source != pair.Target && pair.Source.Length > 0 && pair.Target.Length > 0)
            .Select(pair => Finding.Difference(QemuCheckStatus.Warning, pair.name, pair.Source, pair.Target)).ToList();
        return Finding.Of(differences, worst => "Properties of the CPUs differ that the guest has seen.", worst => $"Start the target with -cpu {ModelOf(here)},{string.Join(',', worst.Take(4).Select(difference => $"{difference.Name}={difference.Source}"))}");
    }

    private static bool HasApic(QemuFacts qemu) => qemu.Objects?.Any(found => found.Path.EndsWith("/lapic", StringComparison.Ordinal)) == true;

    private static IEnumerable<long> Indexes(JsonElement cpus) => cpus.Items().Select(cpu => cpu.Number("cpu-index") ?? -1);

    private static string Topology(QemuFacts qemu)
        => qemu.Object("/machine")?["smp"] is { ValueKind: JsonValueKind.Object } smp
            ? string.Join(',', smp.EnumerateObject().Where(member => member.Name is not "cpus" && member.Value.ToString() != "1").Select(member => $"{member.Name}={member.Value}")) : "";

    private static Dictionary<(uint Leaf, uint? Subleaf, string Register), uint>? WordsOf(QomObject? cpu)
        => cpu?["feature-words"] is { } words ? words.Items().Select(HostProbe.Word).ToDictionary(word => (word.Leaf, word.Subleaf, word.Register), word => word.Bits) : null;

    // Features by name: QEMU has a flag for each.
    private static (List<string> Lost, List<string> Gained) FlagsOf(QomObject? here, QomObject? there)
    {
        var (lost, gained) = (new List<string>(), new List<string>());
        foreach (var (name, value) in here?.Properties.Where(pair => pair.Value.ValueKind is JsonValueKind.True or JsonValueKind.False && !NoFeatures.Contains(pair.Key)) ?? [])
        {
            if (there?[name] is { ValueKind: JsonValueKind.True or JsonValueKind.False } other && other.ValueKind != value.ValueKind)
            {
                (value.ValueKind == JsonValueKind.True ? lost : gained).Add(name);
            }
        }

        // Names of one flag in two spellings are aliases.
        return ([.. lost.Where(name => !name.Contains('_', StringComparison.Ordinal)).Order(StringComparer.Ordinal)], gained);
    }

    private static string NameOf((uint Leaf, uint? Subleaf, string Register) word)
        => word.Subleaf is null ? $"CPUID {word.Leaf:X}.{word.Register}" : $"CPUID {word.Leaf:X}:{word.Subleaf:X}.{word.Register}";

    private static string Bits(uint bits) => string.Create(CultureInfo.InvariantCulture, $"0x{bits:x8} ({BitOperations.PopCount(bits)} features)");
}
