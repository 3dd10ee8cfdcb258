using System.Text.RegularExpressions;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Gathers what a comparison finds. Lines that differ only in an element's number are one line with a count; what the
/// destination refuses comes first.
/// </summary>
internal sealed partial class Findings(MemoryBudget budget)
{
    internal const string ErrorSeverity = "Error";
    internal const string WarningSeverity = "Warning";
    internal const string ValueSeverity = "Value";

    internal const int BytesPerLine = 300;

    private readonly List<MigrationStreamDifference> _lines = [];
    private readonly Dictionary<(string, string, string, string, string, string), int> _known = [];

    /// <summary>The destination refuses the stream, or reads it wrongly.</summary>
    internal void Error(string device, string field, string detail, string reference = "", string difference = "")
        => Add(ErrorSeverity, device, field, detail, reference, difference);

    /// <summary>It depends on something that the two inputs do not tell; the detail says on what.</summary>
    internal void Warning(string device, string field, string detail, string reference = "", string difference = "")
        => Add(WarningSeverity, device, field, detail, reference, difference);

    /// <summary>It loads, and a value differs.</summary>
    internal void Value(string device, string field, string detail, string reference = "", string difference = "")
        => Add(ValueSeverity, device, field, detail, reference, difference);

    internal bool HasErrors(string device) => _lines.Exists(l => l.Severity == ErrorSeverity && l.Device == device);

    internal int Count => _lines.Count;

    /// <summary>Takes over what another comparison found.</summary>
    internal void Add(IEnumerable<MigrationStreamDifference> lines)
    {
        foreach (var line in lines)
        {
            for (int i = 0; i < line.Count; i++)
            {
                Add(line.Severity, line.Device, line.Field, line.Detail, line.Reference, line.Difference);
            }
        }
    }

    internal IReadOnlyList<MigrationStreamDifference> ToList() => [.. _lines.OrderBy(l => l.Severity switch
    {
        ErrorSeverity => 0,
        WarningSeverity => 1,
        _ => 2,
    })];

    private void Add(string severity, string device, string field, string detail, string reference, string difference)
    {
        var key = (severity, device, ElementNumber().Replace(field, "[]"), detail, reference, difference);
        if (_known.TryGetValue(key, out int index))
        {
            _lines[index] = _lines[index] with { Count = _lines[index].Count + 1 };
            return;
        }

        budget.Take(BytesPerLine, "the list of differences");
        _known.Add(key, _lines.Count);
        _lines.Add(new MigrationStreamDifference
        {
            Severity = severity,
            Device = device,
            Field = field,
            Detail = detail,
            Reference = reference,
            Difference = difference,
        });
    }

    [GeneratedRegex(@"\[[0-9]+\]", RegexOptions.None, matchTimeoutMilliseconds: 1000)]
    private static partial Regex ElementNumber();
}
