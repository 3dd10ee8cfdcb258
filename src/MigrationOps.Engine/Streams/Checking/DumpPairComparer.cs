using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Compares what two QEMUs say of the layouts that they load: which device types the second does not know, and whether
/// the first's layouts are its own. By device type, as QEMU's vmstate-static-checker.py does it, but by widths.
/// </summary>
internal sealed class DumpPairComparer(VmstateDump reference, VmstateDump difference, MemoryBudget budget)
{
    private readonly Findings _findings = new(budget);

    internal IReadOnlyList<MigrationStreamDifference> Compare()
    {
        if (reference.Machine != difference.Machine)
        {
            _findings.Error("configuration", "machine type", "the machine type differs", reference.Machine, difference.Machine);
        }

        foreach (var (type, state) in reference.Types)
        {
            if (difference.Types.TryGetValue(type, out var other))
            {
                CompareStates(type, "", state, other, isOnWire: true);
            }
            else
            {
                _findings.Error(type, "", "the second QEMU does not know this device type", $"{state.Name}, version {state.Version}");
            }
        }

        return _findings.ToList();
    }

    private void CompareStates(string type, string path, DumpedState mine, DumpedState theirs, bool isOnWire)
    {
        if (mine.Name != theirs.Name && path.Length == 0)
        {
            _findings.Error(type, path, "the layout has another name, which is part of the section's name", mine.Name, theirs.Name);
            return;
        }

        if (isOnWire && (mine.Version > theirs.Version || mine.Version < theirs.MinimumVersion))
        {
            _findings.Error(type, path, mine.Version > theirs.Version ? "the layout's version is too new there" : "the layout's version is too old there",
                $"{mine.Version}", $"{theirs.MinimumVersion} to {theirs.Version}");
            return;
        }

        CompareFields(type, path, mine, theirs, isOnWire ? mine.Version : theirs.Version);
        foreach (var subsection in mine.Subsections)
        {
            if (Array.Find(theirs.Subsections, s => s.Name == subsection.Name) is { } other)
            {
                CompareStates(type, Join(path, subsection.Name), subsection, other, isOnWire: true);
            }
            else
            {
                _findings.Warning(type, Join(path, subsection.Name), "the second QEMU does not know this optional part: it refuses a stream that has it", $"version {subsection.Version}");
            }
        }
    }

    private void CompareFields(string type, string path, DumpedState mine, DumpedState theirs, int version)
    {
        var a = mine.Fields.Where(f => f.Conditional || f.Version <= mine.Version).ToList();
        var b = theirs.Fields.Where(f => f.Conditional || f.Version <= version).ToList();
        var (onlyMine, onlyTheirs) = (new List<DumpedField>(), new List<DumpedField>());
        foreach (var (field, other) in Align(a, b))
        {
            if (field is not null && other is not null)
            {
                CompareUnpaired(type, path, onlyMine, onlyTheirs);
                (onlyMine, onlyTheirs) = ([], []);
                ComparePair(type, Join(path, field.Name), field, other);
                continue;
            }

            if (field is not null)
            {
                onlyMine.Add(field);
            }

            if (other is not null)
            {
                onlyTheirs.Add(other);
            }
        }

        CompareUnpaired(type, path, onlyMine, onlyTheirs);
    }

    private void ComparePair(string type, string path, DumpedField mine, DumpedField theirs)
    {
        if (mine.State is { } state && theirs.State is { } other)
        {
            CompareStates(type, path, state, other, isOnWire: false);
        }

        if (mine.Number is { } number && theirs.Number is { } numberThere && number != numberThere)
        {
            _findings.Error(type, path, "the number of elements differs", $"{number}", $"{numberThere}");
        }
        else if (!mine.IsStruct && !theirs.IsStruct && mine.Size != theirs.Size && IsPlainWidth(mine.Size) && IsPlainWidth(theirs.Size))
        {
            _findings.Error(type, path, "the field has another size there", $"{mine.Size} bytes", $"{theirs.Size} bytes");
        }
    }

    // Bytes that one side skips bear a name on the other; a field that code decides on may be there or not.
    private void CompareUnpaired(string type, string path, List<DumpedField> mine, List<DumpedField> theirs)
    {
        if (mine.Count + theirs.Count == 0 || Width(mine) == Width(theirs))
        {
            return;
        }

        var lost = mine.Where(f => !f.Conditional).ToList();
        var missing = theirs.Where(f => !f.Conditional).ToList();
        string field = Join(path, (lost.FirstOrDefault() ?? missing.FirstOrDefault() ?? mine.Concat(theirs).First()).Name);
        if (lost.Count > 0 && missing.Count > 0 && CanBeSameBytes(mine, theirs))
        {
            _findings.Warning(type, field, "other names for what may be the same bytes: the descriptions do not say how many elements each has", Names(lost), Names(missing));
        }
        else if (lost.Count + missing.Count > 0)
        {
            _findings.Error(type, field, lost.Count > 0 && missing.Count > 0 ? "the second QEMU reads other fields here"
                : lost.Count > 0 ? "the second QEMU does not read this field" : "the second QEMU reads this field, and the first does not write it",
                Names(lost), Names(missing));
        }
        else
        {
            _findings.Warning(type, field, "fields that code decides on are on one side only", Names(mine), Names(theirs));
        }
    }

    private static bool CanBeSameBytes(List<DumpedField> mine, List<DumpedField> theirs)
    {
        var (a, b) = (Extent(mine), Extent(theirs));
        return !(a.Most < b.Least) && !(b.Most < a.Least);
    }

    private static (long Least, long? Most) Extent(List<DumpedField> fields)
        => fields.Select(DumpMatcher.Extent).Aggregate((Least: 0L, Most: (long?)0), (sum, field) => (sum.Least + field.Least, sum.Most + field.Most));

    private static IEnumerable<(DumpedField?, DumpedField?)> Align(List<DumpedField> mine, List<DumpedField> theirs)
    {
        int next = 0;
        for (int i = 0; i < mine.Count; i++)
        {
            int found = theirs.FindIndex(next, f => f.Name == mine[i].Name && f.IsStruct == mine[i].IsStruct);

            // A name that stands only further on, where others of the first are still to come, is another field of that name.
            if (found < 0 || mine.Skip(i + 1).Any(f => theirs.FindIndex(next, found - next, t => t.Name == f.Name && t.IsStruct == f.IsStruct) >= 0))
            {
                yield return (mine[i], null);
                continue;
            }

            for (; next < found; next++)
            {
                yield return (null, theirs[next]);
            }

            yield return (mine[i], theirs[next++]);
        }

        for (; next < theirs.Count; next++)
        {
            yield return (null, theirs[next]);
        }
    }

    private static long Width(List<DumpedField> fields) => fields.Sum(Width);

    private static long Width(DumpedField field)
        => field.State is { } state ? (field.Number ?? 1) * state.Fields.Where(f => !f.Conditional).Sum(Width) : field.Size * (field.Number ?? 1);

    // Other sizes are those of structures in QEMU's memory.
    private static bool IsPlainWidth(long size) => size is 1 or 2 or 4 or 8;

    private static string Names(List<DumpedField> fields) => string.Join(", ", fields.Take(4).Select(f => f.Name));

    private static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";
}
