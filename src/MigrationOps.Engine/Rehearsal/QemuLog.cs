using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>Explains what QEMU logged about a load, with the streams of both sides where they are at hand.</summary>
internal static class QemuLog
{
    // What is shown of a device; Compare gives all of it.
    private const int MostDifferences = 20;

    /// <summary>What each line means, in the order of the lines.</summary>
    /// <param name="lines">Lines of QEMU's log or of its monitor's error; other lines are of the kind Unknown.</param>
    /// <param name="stream">The stream that was loaded; null if it is not at hand.</param>
    /// <param name="difference">A stream as the destination writes it, or its <c>-dump-vmstate</c>; null if it is not at hand.</param>
    /// <param name="scope">The bounds of the reading.</param>
    public static IReadOnlyList<QemuLogFinding> Explain(
        IEnumerable<string> lines, MigrationStreamInput? stream, MigrationStreamInput? difference, TransferScope? scope = null)
    {
        var findings = QemuLogExplainer.Explain(lines);
        if (stream is null)
        {
            return findings;
        }

        var sections = MigrationStreams.GetInfo(stream, scope).Sections;
        var differences = difference is null ? []
            : MigrationStreams.IsDump(difference.Path) ? MigrationStreams.CompareWithDump(stream, difference.Path, scope)
            : MigrationStreams.Compare(stream, difference, values: true, scope);
        return [.. findings.Select(finding => finding.Device.Length == 0 ? finding : finding with
        {
            Offset = sections.FirstOrDefault(s => s.IdStr == finding.Device && (finding.InstanceId is null || s.InstanceId == finding.InstanceId))?.Offset,
            Differences = [.. differences.Where(d => d.Device == finding.Device).Take(MostDifferences).Select(d => d.ToString())],
        })];
    }
}
