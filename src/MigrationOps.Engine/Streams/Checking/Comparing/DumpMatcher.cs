namespace MigrationOps.Engine.Streams;

/// <summary>
/// Reads a device's state in a stream as a QEMU of a dump would: its fields in order, those that it may skip skipped.
/// Names find the place; what counts are widths, and what must not be missing.
/// </summary>
internal sealed class DumpMatcher(Findings findings, string device)
{
    private const int Rename = 6;
    private const int Lost = 6;
    private const int SkipConditional = 1;
    private const int SkipList = 2;

    // Fields that hold what another layout moved: QEMU's own prefix for them.
    private const string Migrated = "mig_";

    // A property of the board says how many of these there are; a dump shows one, and of a board without them the stream shows none.
    private static readonly HashSet<(string Layout, string Field)> Varying = [("realview_sysctl", "db_clock"), ("realview_sysctl", "db_clock_reset")];

    internal void Compare(StateNode mine, DumpedState there, uint version)
    {
        if (IsTaken("", version, there))
        {
            CompareMembers("", mine.Children ?? [], there, (int)version);
        }
    }

    private bool IsTaken(string path, uint version, DumpedState there)
    {
        if (version <= there.Version && version >= there.MinimumVersion)
        {
            return true;
        }

        findings.Error(device, path, version > there.Version ? "the layout's version is too new there" : "the layout's version is too old there",
            $"{version}", there.MinimumVersion == there.Version ? $"{there.Version}" : $"{there.MinimumVersion} to {there.Version}");
        return false;
    }

    private void CompareMembers(string path, StateNode[] mine, DumpedState there, int version)
    {
        var groups = FieldGroup.Of(mine);
        var fields = there.Fields.Where(f => f.Conditional || f.Version <= version)
            .Select(f => Varying.Contains((there.Name, f.Name)) ? f with { MayBeArray = true } : f).ToList();
        var (a, b) = (new List<FieldGroup>(), new List<DumpedField>());

        // What the destination has no name for, it may still read as fields that code decides on.
        bool canBeRead = CanBeRead(groups, fields);
        foreach (var (group, field) in Align(groups, fields))
        {
            if (group is not null && field is not null && IsSameName(group, field) && Fits(group, field))
            {
                CompareStretch(path, a, b, canBeRead);
                (a, b) = ([], []);
                CompareField(Join(path, group.Name), group, field);
                continue;
            }

            if (group is not null)
            {
                a.Add(group);
            }

            if (field is not null)
            {
                b.Add(field);
            }
        }

        CompareStretch(path, a, b, canBeRead);
        foreach (var subsection in mine.Where(c => c.IsSubsection))
        {
            CompareSubsection(Join(path, subsection.Name), subsection, Array.Find(there.Subsections, s => s.Name == subsection.Name));
        }
    }

    private void CompareSubsection(string path, StateNode mine, DumpedState? there)
    {
        if (there is null)
        {
            findings.Error(device, path, "the destination's QEMU does not know this optional part", $"version {mine.Version}");
        }
        else if (IsTaken(path, mine.Version, there))
        {
            CompareMembers(path, mine.Children ?? [], there, (int)mine.Version);
        }
    }

    private void CompareField(string path, FieldGroup group, DumpedField field)
    {
        if (field.Number is { } number && number != group.Count)
        {
            findings.Error(device, path, "the number of elements differs", $"{group.Count}", $"{number}");
        }

        if (field.State is not { } state)
        {
            return;
        }

        bool isArray = group.Elements.Count > 1;
        for (int i = 0; i < group.Elements.Count; i++)
        {
            // A nested layout's version is not in the stream: the destination reads it as its own.
            if (group.Elements[i].Children is { } children && FieldGroup.IsPlainStruct(group.Elements[i]))
            {
                CompareMembers(isArray ? $"{path}[{i}]" : path, children, state, state.Version);
            }
        }
    }

    // Fields without a counterpart of their name: the destination reads on where it should if their bytes can be its bytes.
    private void CompareStretch(string path, List<FieldGroup> mine, List<DumpedField> theirs, bool canBeRead)
    {
        long length = mine.Sum(g => g.Length);
        long least = 0;
        long? most = 0;
        foreach (var field in theirs)
        {
            var (from, to) = Extent(field);
            least += from;
            most += to;
        }

        if (mine.Count == 1 && theirs.Count == 1 && IsSameName(mine[0], theirs[0]) && theirs[0].Size is 1 or 2 or 4 or 8)
        {
            findings.Error(device, Join(path, mine[0].Name), "the field has another size there", $"{mine[0].Elements[0].Size} bytes", $"{theirs[0].Size} bytes");
            return;
        }

        if (length >= least && !(length > most))
        {
            return;
        }

        string names = string.Join(", ", theirs.Where(f => !f.Conditional).Take(3).Select(f => f.Name));
        if (mine.Count == 0)
        {
            findings.Error(device, Join(path, theirs.Find(f => !f.Conditional && Extent(f).Least > 0)!.Name), "the destination reads this field, and the stream lacks it", "", $"{least} bytes");
        }
        else if (names.Length == 0 && canBeRead)
        {
            findings.Warning(device, Join(path, mine[0].Name), "the destination knows no such field; it may read these bytes as fields before it", mine[0].TypeText);
        }
        else if (names.Length == 0)
        {
            findings.Error(device, Join(path, mine[0].Name), "the destination does not read this field", mine[0].TypeText);
        }
        else
        {
            findings.Error(device, Join(path, mine[0].Name), "the destination reads other fields here", $"{length} bytes", names);
        }
    }

    /// <summary>The fewest and the most bytes that a field takes in a stream; null if there is no telling.</summary>
    internal static (long Least, long? Most) Extent(DumpedField field)
    {
        long least = 0;
        long? most = 0;
        if (field.State is { } state)
        {
            foreach (var member in state.Fields.Where(f => f.Conditional || f.Version <= state.Version))
            {
                var (from, to) = Extent(member);
                least += from;
                most += to;
            }

            least *= field.Number ?? 1;
            most *= field.Number ?? 1;
        }
        else
        {
            least = field.Size * (field.Number ?? 1);
            most = least > 0 ? least : null;
        }

        // A structure may be an array that happens to be empty, or to have many elements: the dump does not say.
        bool isOpen = field.MayBeArray;
        return (field.Conditional || isOpen ? 0 : least, isOpen ? null : most);
    }

    private static IEnumerable<(FieldGroup? Mine, DumpedField? There)> Align(List<FieldGroup> mine, List<DumpedField> theirs)
    {
        int n = mine.Count, m = theirs.Count;
        var cost = new int[n + 1, m + 1];
        for (int i = n; i >= 0; i--)
        {
            for (int j = m; j >= 0; j--)
            {
                int best = i == n && j == m ? 0 : int.MaxValue;
                if (i < n)
                {
                    best = Math.Min(best, Lost + cost[i + 1, j]);
                }

                if (j < m)
                {
                    best = Math.Min(best, SkipCost(theirs[j]) + cost[i, j + 1]);
                }

                if (i < n && j < m && MatchCost(mine[i], theirs[j]) is { } match)
                {
                    best = Math.Min(best, match + cost[i + 1, j + 1]);
                }

                cost[i, j] = best;
            }
        }

        for (int i = 0, j = 0; i < n || j < m;)
        {
            if (i < n && j < m && MatchCost(mine[i], theirs[j]) is { } match && cost[i, j] == match + cost[i + 1, j + 1])
            {
                yield return (mine[i++], theirs[j++]);
            }
            else if (i < n && cost[i, j] == Lost + cost[i + 1, j])
            {
                yield return (mine[i++], null);
            }
            else
            {
                yield return (null, theirs[j++]);
            }
        }
    }

    /// <summary>True if the widths alone can be read by the dump's fields, whatever they are called.</summary>
    private static bool CanBeRead(List<FieldGroup> mine, List<DumpedField> theirs)
    {
        var reached = new bool[mine.Count + 1];
        reached[0] = true;
        foreach (var field in theirs)
        {
            bool isOptional = Extent(field).Least == 0;
            var next = new bool[mine.Count + 1];
            for (int i = 0; i <= mine.Count; i++)
            {
                next[i] |= reached[i] && isOptional;
                if (reached[i] && i < mine.Count && MatchCost(mine[i], field) is not null)
                {
                    next[i + 1] = true;
                }
            }

            reached = next;
        }

        return reached[^1];
    }

    private static int SkipCost(DumpedField field) => field.Conditional ? SkipConditional : field.MayBeArray || field.Size == 0 ? SkipList : Lost;

    private static int? MatchCost(FieldGroup mine, DumpedField theirs)
    {
        if (IsSameName(mine, theirs) && HasSameForm(mine, theirs))
        {
            return 0;
        }

        var (least, most) = Extent(theirs);
        return mine.Length >= least && !(mine.Length > most) && mine.IsStruct == theirs.IsStruct ? Rename : null;
    }

    private static bool IsSameName(FieldGroup mine, DumpedField theirs)
        => Plain(mine.PlainName) == Plain(theirs.Name) || Plain(mine.Name) == Plain(theirs.Name);

    private static string Plain(string name) => name.StartsWith(Migrated, StringComparison.Ordinal) ? name[Migrated.Length..] : name;

    // Of an opaque value, a list that is empty and a pointer to nothing the stream does not tell the structure.
    private static bool HasSameForm(FieldGroup mine, DumpedField theirs)
        => mine.IsStruct == theirs.IsStruct || mine.EndsItself || mine.Elements[0].Type == "nullptr";

    /// <summary>True if the width in the stream can be that of the dump's field, which is a plain one.</summary>
    private static bool Fits(FieldGroup mine, DumpedField theirs)
        => theirs.IsStruct || theirs.Size == 0 || !FieldTypes.IsInteger(mine.Elements[0].Type) || mine.Elements[0].Size == theirs.Size;

    private static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";
}
