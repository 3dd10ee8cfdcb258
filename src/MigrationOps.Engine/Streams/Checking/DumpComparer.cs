using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Says what of a stream a QEMU would not load, by what its <c>-dump-vmstate</c> prints. The dump names layouts, not a VM:
/// how many elements an array has there, and what a property decides, it does not tell.
/// </summary>
internal sealed class DumpComparer(StreamContents stream, VmstateDump dump)
{
    // Devices on a bus whose layouts are registered by hand rather than by their type, so that no dump has them.
    private static readonly HashSet<string> ByHand =
    [
        "ide", "eeprom", "i82550", "i82551", "i82557a", "i82557b", "i82557c", "i82558a", "i82558b", "i82559a", "i82559b", "i82559c", "i82559er", "i82562", "i82801", "icp/server", "spapr_iommu", "spapr_drc",
    ];

    internal IReadOnlyList<MigrationStreamDifference> Compare()
    {
        var findings = new Findings(stream.Budget);
        if (stream.Configuration is { } configuration && configuration.MachineType != dump.Machine)
        {
            findings.Error("configuration", "machine type", "the machine type differs", configuration.MachineType, dump.Machine);
        }

        var description = stream.Description
            ?? throw new StreamException(StreamError.NoDescription, $"The stream '{stream.Name}' has no description that could be compared.");
        foreach (var section in stream.FullSections)
        {
            if (description.Find(section.Header.IdStr, section.Header.InstanceId) is { VmsdName.Length: > 0 } device)
            {
                CompareDevice(findings, section, device.VmsdName);
            }
        }

        return findings.ToList();
    }

    private void CompareDevice(Findings findings, SectionContents section, string layout)
    {
        string device = SectionRules.NameOf(section.Header);
        var candidates = dump.Find(layout);
        if (candidates.Count == 0)
        {
            ReportUnknown(findings, device, layout, section.Header.VersionId);
            return;
        }

        long before = stream.Budget.Used;
        var best = (Errors: int.MaxValue, Lines: (IReadOnlyList<MigrationStreamDifference>)[]);
        try
        {
            // Device types share layouts' names: the one that fits best is the one that was meant.
            var state = DeviceDecoder.Decode(stream, section);
            foreach (var candidate in candidates)
            {
                var found = new Findings(stream.Budget);
                new DumpMatcher(found, device).Compare(state, candidate, section.Header.VersionId);
                var lines = found.ToList();
                int errors = lines.Count(l => l.Severity == Findings.ErrorSeverity);
                if (errors < best.Errors || (errors == best.Errors && lines.Count < best.Lines.Count))
                {
                    best = (errors, lines);
                }
            }
        }
        catch (StreamException e) when (e.Reason == StreamError.DescriptionMismatch)
        {
            findings.Warning(device, "", $"its fields cannot be compared: {e.Message}");
        }
        finally
        {
            stream.Budget.Return(stream.Budget.Used - before);
        }

        findings.Add(best.Lines);
    }

    // A device that lies on a bus has its layout from its type, so that a QEMU that knows the type names the layout.
    private static void ReportUnknown(Findings findings, string device, string layout, uint version)
    {
        if (device.Contains('/', StringComparison.Ordinal) && !ByHand.Contains(layout))
        {
            findings.Error(device, "", $"the destination's QEMU knows no device with the layout {layout}", $"version {version}");
        }
    }
}
