using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>Which sections the destination knows, and in which versions.</summary>
internal static class SectionRules
{
    /// <summary>Sections that every QEMU can load, though it need not write them.</summary>
    private static readonly HashSet<string> KnownEverywhere = ["dirty-bitmap", "globalstate"];

    /// <summary>The sections of both sides that hold the same device's state.</summary>
    internal static IEnumerable<(SectionContents Mine, SectionContents Theirs)> Check(Findings findings, StreamContents reference, StreamContents difference)
    {
        var there = Starts(difference).ToDictionary(s => (s.Header.IdStr, s.Header.InstanceId));
        foreach (var section in Starts(reference))
        {
            var header = section.Header;
            if (!there.Remove((header.IdStr, header.InstanceId), out var other))
            {
                ReportUnknown(findings, header);
                continue;
            }

            if (header.VersionId > other.Header.VersionId)
            {
                findings.Error(NameOf(header), "", "the device's state has a version that is too new there", $"{header.VersionId}", $"{other.Header.VersionId}");
                continue;
            }

            if (header.VersionId < other.Header.VersionId)
            {
                findings.Warning(NameOf(header), "", "the device's state has an older version, which the destination must still take (its -dump-vmstate shows it)", $"{header.VersionId}", $"{other.Header.VersionId}");
            }

            if (header.Kind == SectionKind.Full && other.Header.Kind == SectionKind.Full)
            {
                yield return (section, other);
            }
        }

        foreach (var section in there.Values.Where(s => !KnownEverywhere.Contains(s.Header.IdStr)))
        {
            findings.Warning(NameOf(section.Header), "", "the stream has nothing for this device: it starts as after a reset, under a guest that may know it otherwise", "", $"version {section.Header.VersionId}");
        }
    }

    /// <summary>What a section's device is called in the findings: a section's number says nothing about it.</summary>
    internal static string NameOf(StreamSection header) => header.InstanceId == 0 ? header.IdStr : $"{header.IdStr}#{header.InstanceId}";

    private static void ReportUnknown(Findings findings, StreamSection header)
    {
        if (header.IdStr == "dirty-bitmap")
        {
            findings.Value(NameOf(header), "", "the stream has dirty bitmaps: they need their block nodes there", $"version {header.VersionId}");
        }
        else if (!KnownEverywhere.Contains(header.IdStr))
        {
            findings.Error(NameOf(header), "", "the destination has no such device", $"version {header.VersionId}");
        }
    }

    private static IEnumerable<SectionContents> Starts(StreamContents contents)
        => contents.Sections.Where(s => s.Header.Kind is SectionKind.Start or SectionKind.Full)
            .GroupBy(s => (s.Header.IdStr, s.Header.InstanceId)).Select(g => g.Last());
}
