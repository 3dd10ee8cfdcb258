using System.Globalization;
using MigrationOps.Engine.Qemu;
namespace MigrationOps.Engine.Streams;

/// <summary>Says what of a stream a QEMU would not load, by what its <c>-dump-vmstate</c> prints.</summary>
internal sealed class DumpComparer(StreamContents stream, VmstateDump dump)
{
    private List<MigrationStreamDifference> _found = [];

    internal IReadOnlyList<MigrationStreamDifference> Compare()
    {
        if (stream.Configuration is { } configuration && configuration.MachineType != dump.Machine)
        {
            Add(StreamComparer.Error, "configuration", "machine type", "the machine type differs", configuration.MachineType, dump.Machine);
        }

        var description = stream.Description
            ?? throw new StreamException(StreamError.NoDescription, $"The stream '{stream.Name}' has no description that could be compared.");
        foreach (var device in description.Devices)
        {
            var candidates = dump.Find(device.VmsdName);
            if (candidates.Count > 0)
            {
                CompareWithBest(device, candidates);
            }
        }

        return _found;
    }

    // Of the device types that share a layout's name, the one that fits best is the one that was meant.
    private void CompareWithBest(DescribedState device, IReadOnlyList<DumpedState> candidates)
    {
        var before = _found;
        List<MigrationStreamDifference>? best = null;
        foreach (var candidate in candidates)
        {
            _found = [];
            CompareStates(Display(device), "", device, candidate);
            if (best is null || _found.Count < best.Count)
            {
                best = _found;
            }
        }

        _found = [.. before, .. best!];
    }

    private void CompareStates(string device, string path, DescribedState mine, DumpedState there)
    {
        if (mine.Version > there.Version || mine.Version < there.MinimumVersion)
        {
            Add(StreamComparer.Error, device, path,
                mine.Version > there.Version ? "the layout's version is too new there" : "the layout's version is too old there",
                $"{mine.Version}", $"{there.MinimumVersion} to {there.Version}");
            return;
        }

        CompareFields(device, path, mine, there);
        foreach (var subsection in mine.Subsections)
        {
            if (Array.Find(there.Subsections, s => s.Name == subsection.VmsdName) is { } other)
            {
                CompareStates(device, Join(path, subsection.VmsdName), subsection, other);
            }
            else
            {
                Add(StreamComparer.Error, device, Join(path, subsection.VmsdName), "the subsection is unknown there", $"version {subsection.Version}", "");
            }
        }
    }

    // The loader reads its fields in order. A field that it has and the stream has not is left out legally if code decides,
    // if it came with a later version, or if it is an array that happens to be empty - which the dump does not tell.
    private void CompareFields(string device, string path, DescribedState mine, DumpedState there)
    {
        int next = 0;
        string? previous = null;
        foreach (var member in mine.Fields)
        {
            if (member.Name == previous)
            {
                continue;
            }

            previous = member.Index is null && member.ArrayLength is null ? null : member.Name;
            int found = Find(there.Fields, next, member);
            if (found < 0)
            {
                bool passed = Array.Exists(there.Fields, f => f.Name == member.Name);
                Add(StreamComparer.Error, device, Join(path, member.Name),
                    passed ? "the field has another place or form there" : "the field is unknown there", member.Type, "");
                continue;
            }

            foreach (var skipped in there.Fields[next..found].Where(f => !f.Conditional && f.Version <= mine.Version && f.Size > 0))
            {
                Add(StreamComparer.Warning, device, Join(path, skipped.Name), "the stream lacks this field, unless it is an array that is empty", "", $"{skipped.Size} bytes");
            }

            var other = there.Fields[found];
            next = found + 1;
            if (other.State is { } state && member.States is [var structure, ..])
            {
                CompareStates(device, Join(path, member.Name), structure, state);
            }
            else if (FieldTypes.IsInteger(member.Type) && other.Size != member.Size && other.Size > 0)
            {
                Add(StreamComparer.Error, device, Join(path, member.Name), "the field has another size there", $"{member.Size} bytes", $"{other.Size} bytes");
            }
        }

        foreach (var missing in there.Fields[next..].Where(f => !f.Conditional && f.Version <= mine.Version && f.Size > 0))
        {
            Add(StreamComparer.Warning, device, Join(path, missing.Name), "the stream lacks this field, unless it is an array that is empty", "", $"{missing.Size} bytes");
        }
    }

    private void Add(string severity, string device, string field, string detail, string a, string b)
    {
        stream.Budget.Take(200, "the list of differences");
        _found.Add(new MigrationStreamDifference { Severity = severity, Device = device, Field = field, Detail = detail, Reference = a, Difference = b });
    }

    // A name that occurs several times in a layout is numbered in the stream's description, by its place among them.
    private static int Find(DumpedField[] fields, int next, DescribedField member)
    {
        int exact = Array.FindIndex(fields, next, f => f.Name == member.Name && Fits(f));
        if (exact >= 0 || !member.Name.EndsWith(']') || member.Name.LastIndexOf('[') is not (> 0 and var bracket)
            || !int.TryParse(member.Name.AsSpan(bracket + 1, member.Name.Length - bracket - 2), CultureInfo.InvariantCulture, out int number))
        {
            return exact;
        }

        string name = member.Name[..bracket];
        for (int i = 0; i < fields.Length; i++)
        {
            if (fields[i].Name == name && number-- == 0)
            {
                return i >= next && Fits(fields[i]) ? i : -1;
            }
        }

        return -1;

        // Of a list that is empty, a tree and a pointer to nothing, the stream does not tell the structure.
        bool Fits(DumpedField candidate) => member.States.Length > 0 ? candidate.State is not null
            : candidate.State is null || member.Type is "gtree" or "nullptr" || FieldTypes.IsList(member.Type);
    }

    private static string Display(DescribedState device) => device.InstanceId == 0 ? device.Name : $"{device.Name}#{device.InstanceId}";

    private static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";
}
