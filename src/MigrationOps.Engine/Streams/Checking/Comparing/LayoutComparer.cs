namespace MigrationOps.Engine.Streams;

/// <summary>Two fields that the loader takes for each other, and their place in the device.</summary>
internal readonly record struct FieldPair(string Path, StateNode Mine, StateNode Theirs);

/// <summary>
/// Compares what two streams have of a device by what lies on the wire: order and width. A structure has no head in the
/// stream, so that it does not count who nests what, what a field is called, or which version a nested layout has.
/// </summary>
internal sealed class LayoutComparer(Findings findings, string device)
{
    private readonly List<(ulong Mine, ulong Theirs)> _numbers = [];
    private (ulong Mine, ulong Theirs) _version;
    private readonly List<FieldPair> _pairs = [];

    /// <summary>Compares the members of two structures and what is below them.</summary>
    /// <param name="mine">Of the stream that is to be loaded.</param>
    /// <param name="theirs">As the destination writes it.</param>
    /// <param name="isOlder">True if the destination's layout has a later version: it does not read what came with that.</param>
    /// <returns>The fields that stand for each other and have no structure of their own.</returns>
    internal IReadOnlyList<FieldPair> Compare(StateNode mine, StateNode theirs, bool isOlder)
    {
        CompareMembers("", mine.Children ?? [], theirs.Children ?? [], isOlder);
        return _pairs;
    }

    private void CompareMembers(string path, StateNode[] mine, StateNode[] theirs, bool isOlder)
    {
        foreach (var stretch in FieldAlignment.Align(FieldGroup.Of(mine), FieldGroup.Of(theirs)))
        {
            if (stretch.IsPair)
            {
                ComparePair(path, stretch.Mine[0], stretch.Theirs[0], isOlder);
            }
            else
            {
                CompareStretch(path, stretch, isOlder);
            }
        }

        var there = theirs.Where(c => c.IsSubsection).GroupBy(c => c.Name).ToDictionary(g => g.Key, g => g.First());
        foreach (var subsection in mine.Where(c => c.IsSubsection))
        {
            CompareSubsection(Join(path, subsection.Name), subsection, there.GetValueOrDefault(subsection.Name));
            there.Remove(subsection.Name);
        }

        foreach (var subsection in there.Values)
        {
            SpaprCapabilities.CheckAbsent(findings, device, subsection);
        }
    }

    private void CompareSubsection(string path, StateNode mine, StateNode? theirs)
    {
        if (theirs is null)
        {
            if (SpaprCapabilities.Is(mine))
            {
                SpaprCapabilities.CheckNew(findings, device, mine);
            }
            else if (KnownSubsections.NeedsPlace(mine.Name))
            {
                findings.Error(device, path, "an optional part for which the destination's device or CPU has no place: QEMU ends there", $"version {mine.Version}");
            }
            else if (HasOpenArray(mine) && !KnownSubsections.HasFixedArray(mine.Name))
            {
                findings.Warning(device, path, "an optional part with an array whose length is not in the stream: the destination's properties decide whether it has as many elements", $"version {mine.Version}");
            }
            else if (!KnownSubsections.IsOld(mine.Name))
            {
                findings.Warning(device, path, "an optional part that came after QEMU 7.2: the destination's QEMU must know it (its -dump-vmstate shows it)", $"version {mine.Version}");
            }
        }
        else if (mine.Version > theirs.Version)
        {
            findings.Error(device, path, "the optional part's version is too new there", $"{mine.Version}", $"{theirs.Version}");
        }
        else if (mine.Children is not null && theirs.Children is not null)
        {
            CompareMembers(path, mine.Children, theirs.Children, mine.Version < theirs.Version);
        }
    }

    // Arrays of structures, as of memory slots: a list of plain numbers is mostly a fixed one.
    private static bool HasOpenArray(StateNode subsection)
    {
        var told = new HashSet<ulong>();
        foreach (var group in FieldGroup.Of(subsection.Children ?? []))
        {
            if (group.IsStruct && (group.Count > 1 ? !told.Contains((ulong)group.Count) : HasOpenArray(group.Elements[0])))
            {
                return true;
            }

            told.UnionWith(group.Elements.Where(e => e.Children is null).Select(e => e.Number));
        }

        return false;
    }

    private void ComparePair(string path, FieldGroup mine, FieldGroup theirs, bool isOlder)
    {
        string name = Join(path, mine.Name);
        if (mine.Count != theirs.Count && !FollowsFromCounts(mine.Count, theirs.Count))
        {
            findings.Error(device, name, "the number of elements differs, and the stream does not tell it", $"{mine.Count}", $"{theirs.Count}");
        }

        int both = Math.Min(mine.Elements.Count, theirs.Elements.Count);
        bool isArray = Math.Max(mine.Elements.Count, theirs.Elements.Count) > 1;
        for (int i = 0; i < both; i++)
        {
            CompareElement(isArray ? $"{name}[{i}]" : name, mine.Elements[i], theirs.Elements[i], mine.EndsItself, isOlder);
        }
    }

    private void CompareElement(string path, StateNode mine, StateNode theirs, bool endsItself, bool isOlder)
    {
        if (mine.Children is not null && theirs.Children is not null && FieldGroup.IsPlainStruct(mine) && FieldGroup.IsPlainStruct(theirs))
        {
            CompareMembers(path, mine.Children, theirs.Children, isOlder);
            return;
        }

        if ((mine.Type == "nullptr") != (theirs.Type == "nullptr"))
        {
            findings.Error(device, path, theirs.Type == "nullptr" ? "there is nothing in this place there" : "the stream has nothing for this place", mine.Type, theirs.Type);
            return;
        }

        if (mine.Length != theirs.Length && mine.Count == theirs.Count && !endsItself && !FollowsFromCounts(mine.Length, theirs.Length))
        {
            findings.Error(device, path, "the field has another size there", $"{mine.Length:N0} bytes", $"{theirs.Length:N0} bytes");
        }

        Note(path, mine, theirs);
    }

    // Fields without a counterpart of their name. If both sides have as many bytes, the loader reads on where it should.
    private void CompareStretch(string path, FieldAlignment.Stretch stretch, bool isOlder)
    {
        var (mine, theirs) = stretch;
        long length = mine.Sum(g => g.Length), lengthThere = theirs.Sum(g => g.Length);
        if (length == lengthThere)
        {
            PairBytes(path, mine, theirs);
            return;
        }

        if (mine.Count == 1 && theirs.Count == 1 && mine[0].Name == theirs[0].Name)
        {
            ComparePair(path, mine[0], theirs[0], isOlder);
            return;
        }

        if (mine.Count > 0 && theirs.Count > 0 && mine.Concat(theirs).All(g => g.Count == 1 && !g.IsStruct))
        {
            findings.Error(device, Join(path, mine[0].Name), "the destination reads other fields here", Text(mine), Text(theirs));
            return;
        }

        foreach (var group in mine)
        {
            ReportOneSided(Join(path, group.Name), group, isMine: true);
        }

        foreach (var group in theirs.Where(_ => !isOlder))
        {
            ReportOneSided(Join(path, group.Name), group, isMine: false);
        }
    }

    private void ReportOneSided(string path, FieldGroup group, bool isMine)
    {
        if (isMine ? FollowsFromCounts(group.Count, 0) || FollowsFromCounts(group.Length, 0) : FollowsFromCounts(0, group.Count) || FollowsFromCounts(0, group.Length))
        {
            return;
        }

        // A layout that has its version in a field: the reader knows the older ones.
        bool isNewer = _version.Mine > _version.Theirs, isOlder = _version.Mine < _version.Theirs;
        if (isOlder && !isMine)
        {
            return;
        }

        string detail = isMine ? "the destination does not read this field" : "the destination reads this field, and the stream lacks it";
        string a = isMine ? group.TypeText : "", b = isMine ? "" : group.TypeText;
        if (!(isNewer && isMine) && _numbers.Exists(n => n.Mine != n.Theirs))
        {
            findings.Warning(device, path, $"{detail}, unless the state before it decides", a, b);
        }
        else
        {
            findings.Error(device, path, detail, a, b);
        }
    }

    // Under other names: bytes that one release skips bear a name in the other, or two fields became one.
    private void PairBytes(string path, List<FieldGroup> mine, List<FieldGroup> theirs)
    {
        var (a, b) = (mine.SelectMany(g => g.Leaves()).ToList(), theirs.SelectMany(g => g.Leaves()).ToList());
        if (mine.Count > 1 && mine.Select((g, i) => (g, i)).Any(x => theirs.FindIndex(t => t.Name == x.g.Name && t.IsStruct == x.g.IsStruct) is >= 0 and var at && Start(theirs, at) != Start(mine, x.i)))
        {
            findings.Warning(device, Join(path, mine[0].Name), "as many bytes, but the same fields lie in another order: the destination misreads them or refuses them", Text(mine), Text(theirs));
            return;
        }

        long at = 0, atThere = 0;
        for (int i = 0, j = 0; i < a.Count && j < b.Count;)
        {
            if (at == atThere && a[i].Length == b[j].Length)
            {
                Note(Join(path, a[i].Name), a[i], b[j]);
            }

            long end = at + a[i].Length, endThere = atThere + b[j].Length;
            if (end <= endThere)
            {
                at = end;
                i++;
            }

            if (endThere <= end)
            {
                atThere = endThere;
                j++;
            }
        }
    }

    private static long Start(List<FieldGroup> groups, int index) => groups.Take(index).Sum(g => g.Length);

    private void Note(string path, StateNode mine, StateNode theirs)
    {
        _pairs.Add(new FieldPair(path, mine, theirs));
        if (mine.Count == 1 && mine.Size is > 0 and <= 8 && mine.Length == theirs.Length)
        {
            var number = (mine.Number, theirs.Number);
            if (!mine.Name.EndsWith("mig_version_id", StringComparison.Ordinal))
            {
                _numbers.Add(number);
            }
            else if (mine.Number != theirs.Number)
            {
                _version = number;
            }
        }
    }

    /// <summary>True if a number before this place is, or gives, the length on both sides: the loader takes it from the stream.</summary>
    private bool FollowsFromCounts(long mine, long theirs) => _numbers.Exists(n => n.Mine != n.Theirs && Gives(n.Mine, n.Theirs, mine, theirs));

    private static bool Gives(ulong a, ulong b, long mine, long theirs)
    {
        if (a > long.MaxValue || b > long.MaxValue)
        {
            return false;
        }

        long factor = a > 0 ? mine / (long)a : theirs / (long)b;
        return factor > 0 && factor * (long)a == mine && factor * (long)b == theirs;
    }

    private static string Text(List<FieldGroup> groups) => string.Join(", ", groups.Take(3).Select(g => $"{g.Name} ({g.Length} bytes)"));

    private static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";
}
