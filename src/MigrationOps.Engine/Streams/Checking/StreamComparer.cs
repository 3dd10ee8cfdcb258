using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Compares a stream with one that the destination wrote: would the first load there? It goes as the loader goes:
/// configuration and commands, memory, sections, and of each device what lies on the wire.
/// </summary>
internal sealed class StreamComparer(StreamContents reference, StreamContents difference, bool values)
{
    internal IReadOnlyList<MigrationStreamDifference> Compare()
    {
        var findings = new Findings(reference.Budget);
        ConfigurationRules.Check(findings, reference, difference);
        RamBlockRules.Check(findings, reference, difference);
        var both = SectionRules.Check(findings, reference, difference).ToList();
        if (reference.Description is null || difference.Description is null)
        {
            findings.Warning("description", "", "the devices' fields are not compared: a stream without a description does not name them",
                reference.Description is null ? "none" : "", difference.Description is null ? "none" : "");
            return findings.ToList();
        }

        var devices = new DeviceComparer(reference, difference, findings);
        foreach (var (mine, theirs) in both)
        {
            devices.Compare(mine, theirs, values);
        }

        return findings.ToList();
    }
}
