using System.Globalization;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>Guest memory.</summary>
internal static class MemoryChecks
{
    // Blocks that QEMU makes resizable: tables that the next reset builds anew, and ROMs that it loads from files.
    private const string LoadedRom = "/rom@";

    internal static IEnumerable<PreflightCheck> All =>
    [
        new("RamBlocks", QemuCheckGroup.Memory, RamBlocks),
        new("MemoryBackends", QemuCheckGroup.Memory, MemoryBackends),
    ];

    private static Finding? RamBlocks(PreflightFacts facts)
    {
        if (facts.Target is not { } target)
        {
            return null;
        }

        if (RamBlockFacts.Of(facts.Source) is not { } blocks || RamBlockFacts.Of(target) is not { } others)
        {
            return ByMemorySize(facts.Source, target);
        }

        var there = others.ToDictionary(block => block.Name, StringComparer.Ordinal);
        var differences = new List<QemuMigrationDifference>();
        foreach (var block in blocks)
        {
            if (!there.Remove(block.Name, out var other))
            {
                differences.Add(Finding.Difference(QemuCheckStatus.Blocker, block.Name, Bytes(block.Used), null));
            }
            else if (block.Used != other.Used && !(block.Name.StartsWith(LoadedRom, StringComparison.Ordinal) && block.Used <= other.Maximum))
            {
                differences.Add(Finding.Difference(QemuCheckStatus.Blocker, block.Name, Bytes(block.Used), Bytes(other.Used)));
            }
            else if (facts.Options.Mode == QemuMigrationMode.Postcopy && block.PageBytes != other.PageBytes)
            {
                differences.Add(Finding.Difference(QemuCheckStatus.Blocker, block.Name + " page size", Bytes(block.PageBytes), Bytes(other.PageBytes)));
            }
        }

        // The stream has nothing for them, so that they stay as they are.
        differences.AddRange(there.Values.Select(block => Finding.Difference(QemuCheckStatus.Info, block.Name, null, Bytes(block.Used))));
        return Finding.Of(differences,
            worst => worst[0].Status == QemuCheckStatus.Info ? "The target has blocks of memory that the source lacks; they stay as they are."
                : "The blocks of guest memory differ.",
            worst => worst[0].Status == QemuCheckStatus.Info ? "" : ActionFor(worst[0]));
    }

    private static string ActionFor(QemuMigrationDifference difference)
        => difference.Name.StartsWith(LoadedRom, StringComparison.Ordinal) || difference.Name.EndsWith(".rom", StringComparison.Ordinal)
            ? "Start the target with the same ROM files (-bios, romfile=, -kernel) as the source."
        : difference.Name.EndsWith("page size", StringComparison.Ordinal) ? "Back the target's memory with pages of the same size, or migrate without postcopy."
        : difference.Target.Length == 0 ? $"Give the target the device or memory backend that makes '{difference.Name}', with the same id and address."
        : $"Start the target with the same sizes: -m for main memory, the device's own size property for '{difference.Name}'.";

    private static Finding ByMemorySize(QemuFacts source, QemuFacts target)
    {
        var (here, there) = (source["query-memory-size-summary"]?.Number("base-memory"), target["query-memory-size-summary"]?.Number("base-memory"));
        return (here is not null && there is not null && here != there
            ? Finding.Blocker("The guest's memory has another size.", $"Start the target with -m {here >> 20}M.")
            : Finding.Unknown("One side does not list its blocks of memory (x-query-ramblock).")).Of(Bytes(here), Bytes(there));
    }

    private static Finding? MemoryBackends(PreflightFacts facts)
    {
        if (facts.Target is not { } target || facts.Source["query-memdev"] is not { } here || target["query-memdev"] is not { } there)
        {
            return null;
        }

        var others = there.Items().Where(backend => backend.Text("id") is not null).ToDictionary(backend => backend.Text("id")!, StringComparer.Ordinal);
        var differences = new List<QemuMigrationDifference>();
        bool stays = facts.Options.Mode is QemuMigrationMode.CprReboot or QemuMigrationMode.CprTransfer || TruthChecks.CapabilityOf(facts.Source, "x-ignore-shared") == true;
        foreach (var backend in here.Items())
        {
            if (backend.Text("id") is not { } id || !others.TryGetValue(id, out var other))
            {
                continue;
            }

            // Only memory that stays where it is must be backed alike: what is copied may go into pages of any kind.
            if (backend.Flag("share") is { } share && other.Flag("share") is { } shareThere && share != shareThere)
            {
                differences.Add(Finding.Difference(stays ? QemuCheckStatus.Blocker : QemuCheckStatus.Info, $"{id} share", OnOff(share), OnOff(shareThere)));
            }
        }

        return Finding.Of(differences, worst => "Memory backends are shared on one side only.", worst => worst[0].Status == QemuCheckStatus.Info ? "" : "Give the memory backends share=on on both sides.");
    }

    private static string OnOff(bool value) => value ? "on" : "off";

    internal static string Bytes(long? bytes) => bytes switch
    {
        null => "",
        >= 1 << 20 when bytes % (1 << 20) == 0 => string.Create(CultureInfo.InvariantCulture, $"{bytes >> 20} MiB"),
        >= 1 << 10 when bytes % (1 << 10) == 0 => string.Create(CultureInfo.InvariantCulture, $"{bytes >> 10} KiB"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{bytes} bytes"),
    };
}
