using System.Globalization;
using System.Text.RegularExpressions;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>Reads lines of QEMU's log and says what they mean for a load. It does no I/O.</summary>
internal static partial class QemuLogExplainer
{
    /// <summary>
    /// The findings in the order of the lines. A line that names no device gets the device that a later line of the same load
    /// names: QEMU tells the field first and the section after it.
    /// </summary>
    internal static IReadOnlyList<QemuLogFinding> Explain(IEnumerable<string> lines)
    {
        var findings = new List<QemuLogFinding>();
        foreach (string line in lines.SelectMany(text => text.Split('\n')).SelectMany(text => Joint().Split(text)))
        {
            string words = StripPrefix(line.Trim());
            if (words.Length > 0)
            {
                findings.Add(ExplainLine(words));
            }
        }

        return AssignDevices(findings);
    }

    /// <summary>The finding that tells most: the first that refuses and is special, else the first that refuses.</summary>
    internal static QemuLogFinding? FindCause(IReadOnlyList<QemuLogFinding> findings)
        => findings.FirstOrDefault(f => f.Refuses && !IsGeneral(f.Kind))
            ?? findings.FirstOrDefault(f => f.Refuses && f.Kind is "DeviceFailed" or "SectionFailed")
            ?? findings.FirstOrDefault(f => f.Refuses || f.BreaksDevice);

    internal static bool IsGeneral(string kind) => kind is "DeviceFailed" or "SectionFailed" or "LoadFailed" or "FieldNotLoaded" or "Unknown";

    /// <summary>The line without the time that libvirt puts before it and the program's name.</summary>
    internal static string StripPrefix(string line) => Prefix().Replace(line, "");

    private static QemuLogFinding ExplainLine(string line)
    {
        foreach (var message in QemuMessage.Table)
        {
            var match = message.Pattern.Match(line);
            if (match.Success)
            {
                return new QemuLogFinding
                {
                    Line = line,
                    Kind = message.Kind,
                    Refuses = message.Refuses,
                    BreaksDevice = message.BreaksDevice,
                    Device = match.Groups["device"].Value,
                    InstanceId = match.Groups["instance"] is { Success: true } instance ? ParseNumber(instance.Value) : null,
                    Field = match.Groups["field"].Value,
                    StreamValue = match.Groups["stream"].Value,
                    LocalValue = match.Groups["local"].Value,
                    Meaning = Fill(message.Meaning, match),
                    RecommendedAction = Fill(message.Action, match),
                };
            }
        }

        return new QemuLogFinding { Line = line, Kind = "Unknown", Meaning = line, RecommendedAction = "Look at the lines around it." };
    }

    private static string Fill(string text, Match match)
        => Placeholder().Replace(text, place => match.Groups[place.Groups[1].Value].Value);

    private static List<QemuLogFinding> AssignDevices(List<QemuLogFinding> findings)
    {
        (string Device, long? Instance)? section = null;
        for (int i = findings.Count - 1; i >= 0; i--)
        {
            var finding = findings[i];
            if (finding.Kind is "DeviceFailed" or "SectionFailed")
            {
                section = (finding.Device, finding.InstanceId);
            }
            else if (finding.Kind == "LoadFailed")
            {
                section = null;
            }
            else if (section is var (device, instance))
            {
                // The layout's name that a line has is said in its meaning; the device is the section.
                findings[i] = finding with { Device = device, InstanceId = instance };
            }
        }

        return findings;
    }

    private static long ParseNumber(string text) => text.StartsWith("0x", StringComparison.Ordinal)
        ? long.Parse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture)
        : long.Parse(text, CultureInfo.InvariantCulture);

    [GeneratedRegex(@"^(?:\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?:? )?(?:[^\s:]*qemu[^\s:]*: )?(?:-[\w-]+ [^:]*: )?", RegexOptions.None, 1000)]
    private static partial Regex Prefix();

    // Some messages end without a newline, and the next one follows on their line.
    [GeneratedRegex(@"(?<=[\w)])(?=qemu-system-\w+: )", RegexOptions.None, 1000)]
    private static partial Regex Joint();

    [GeneratedRegex(@"\{(\w+)\}", RegexOptions.None, 1000)]
    private static partial Regex Placeholder();
}
