using MigrationOps.Engine.Qemu;
namespace MigrationOps.Engine.Streams;

/// <summary>
/// Compares a stream with another one: would the first load where the second came from? What the loader refuses is an
/// error; what depends on the guest's state at that moment, a warning.
/// </summary>
internal sealed class StreamComparer(StreamContents reference, StreamContents difference, bool values)
{
    internal const string Error = "Error";
    internal const string Warning = "Warning";
    internal const string Value = "Value";

    private readonly List<MigrationStreamDifference> _found = [];

    internal IReadOnlyList<MigrationStreamDifference> Compare()
    {
        CompareText(Error, "configuration", "machine type", reference.Configuration?.MachineType, difference.Configuration?.MachineType);
        CompareText(Error, "configuration", "page size", $"{reference.PageSize}", $"{difference.PageSize}");
        CompareText(Error, "configuration", "capabilities", Capabilities(reference), Capabilities(difference));
        CompareText(Error, "configuration", "uuid", reference.Configuration?.Uuid?.ToString(), difference.Configuration?.Uuid?.ToString());
        CompareRam();
        CompareDevices();
        return _found;
    }

    private void CompareRam()
    {
        var there = difference.Ram.ToDictionary(r => r.Block.Name, r => r.Block);
        foreach (var block in reference.Ram.Select(r => r.Block))
        {
            if (!there.Remove(block.Name, out var other))
            {
                Add(Error, "ram", block.Name, "the RAM block is unknown there", $"0x{block.Length:x} bytes", "");
            }
            else if (other.Length != block.Length)
            {
                Add(Error, "ram", block.Name, "the RAM block has another size", $"0x{block.Length:x} bytes", $"0x{other.Length:x} bytes");
            }
        }

        foreach (var block in there.Values)
        {
            Add(Warning, "ram", block.Name, "the stream has nothing for this RAM block", "", $"0x{block.Length:x} bytes");
        }
    }

    private void CompareDevices()
    {
        var there = difference.Sections.Where(s => s.Header.Kind is SectionKind.Start or SectionKind.Full)
            .GroupBy(s => (s.Header.IdStr, s.Header.InstanceId)).ToDictionary(g => g.Key, g => g.Last());
        foreach (var section in reference.Sections.Where(s => s.Header.Kind is SectionKind.Start or SectionKind.Full)
            .GroupBy(s => (s.Header.IdStr, s.Header.InstanceId)).Select(g => g.Last()))
        {
            var header = section.Header;
            if (!there.Remove((header.IdStr, header.InstanceId), out var other))
            {
                Add(Error, header.Display, "", "the device is unknown there", $"version {header.VersionId}", "");
                continue;
            }

            if (header.VersionId != other.Header.VersionId)
            {
                Add(header.VersionId > other.Header.VersionId ? Error : Warning, header.Display, "", "the device's state has another version",
                    $"{header.VersionId}", $"{other.Header.VersionId}");
            }

            if (header.Kind == SectionKind.Full && other.Header.Kind == SectionKind.Full)
            {
                CompareFields(section, other);
            }
        }

        foreach (var section in there.Values)
        {
            Add(Warning, section.Header.Display, "", "the stream has nothing for this device", "", $"version {section.Header.VersionId}");
        }
    }

    private void CompareFields(SectionContents section, SectionContents other)
    {
        var mine = reference.Description?.Find(section.Header.IdStr, section.Header.InstanceId);
        var theirs = difference.Description?.Find(other.Header.IdStr, other.Header.InstanceId);
        if (mine is null || theirs is null)
        {
            return;
        }

        CompareStates(section.Header.Display, "", mine, theirs);
        if (values)
        {
            long before = reference.Budget.Used, otherBefore = difference.Budget.Used;
            CompareValues(section.Header.Display, "", DeviceDecoder.Decode(reference, section), DeviceDecoder.Decode(difference, other));
            reference.Budget.Return(reference.Budget.Used - before);
            difference.Budget.Return(difference.Budget.Used - otherBefore);
        }
    }

    private void CompareStates(string device, string path, DescribedState mine, DescribedState theirs)
    {
        if (mine.VmsdName != theirs.VmsdName)
        {
            Add(Error, device, path, "the layout has another name", mine.VmsdName, theirs.VmsdName);
            return;
        }

        if (mine.Version != theirs.Version)
        {
            Add(mine.Version > theirs.Version ? Error : Warning, device, path, "the layout has another version", $"{mine.Version}", $"{theirs.Version}");
        }

        var there = theirs.Fields.GroupBy(f => f.Name).ToDictionary(g => g.Key, g => g.First());
        foreach (var member in mine.Fields.GroupBy(f => f.Name).Select(g => g.First()))
        {
            string name = Join(path, member.Name);
            if (!there.Remove(member.Name, out var other))
            {
                Add(Error, device, name, "the field is unknown there", member.Type, "");
            }
            else if (member.Type != other.Type)
            {
                Add(Error, device, name, "the field has another type", member.Type, other.Type);
            }
            else if (member.States is [var state, ..] && other.States is [var otherState, ..])
            {
                CompareStates(device, name, state, otherState);
            }
            else if (member.Size != other.Size)
            {
                Add(Warning, device, name, "the field has another size", $"{member.Size} bytes", $"{other.Size} bytes");
            }
        }

        foreach (var member in there.Values)
        {
            Add(Error, device, Join(path, member.Name), "the stream lacks this field", "", member.Type);
        }

        var subsections = theirs.Subsections.ToDictionary(s => s.VmsdName);
        foreach (var subsection in mine.Subsections)
        {
            if (subsections.TryGetValue(subsection.VmsdName, out var other))
            {
                CompareStates(device, Join(path, subsection.VmsdName), subsection, other);
            }
            else
            {
                Add(Warning, device, Join(path, subsection.VmsdName), "the subsection does not occur there; it may still be known", $"version {subsection.Version}", "");
            }
        }
    }

    private void CompareValues(string device, string path, StateNode mine, StateNode theirs)
    {
        if (mine.Children is { } children && theirs.Children is { } others)
        {
            var there = others.GroupBy(c => c.Name).ToDictionary(g => g.Key, g => new Queue<StateNode>(g));
            var counts = new Dictionary<string, int>();
            foreach (var child in children)
            {
                int index = counts.GetValueOrDefault(child.Name);
                counts[child.Name] = index + 1;
                if (there.GetValueOrDefault(child.Name) is { Count: > 0 } queue)
                {
                    CompareValues(device, Join(path, child.IsElement ? $"{child.Name}[{index}]" : child.Name), child, queue.Dequeue());
                }
            }

            return;
        }

        string a = StreamInfoMapper.ValueText(reference, mine), b = StreamInfoMapper.ValueText(difference, theirs);
        string detail = a != b ? "the value differs" : FirstDifference(mine, theirs) is { } at ? $"the value differs from its byte {at:N0} on" : "";
        if (detail.Length > 0)
        {
            Add(Value, device, path, detail, mine.Text is { Length: > 0 } text ? $"{a} ({text})" : a, theirs.Text is { Length: > 0 } other ? $"{b} ({other})" : b);
        }
    }

    // The texts of long values are only their beginning.
    private long? FirstDifference(StateNode mine, StateNode theirs)
    {
        if (mine.Length != theirs.Length)
        {
            return Math.Min(mine.Length, theirs.Length);
        }

        var (a, b) = (new byte[StreamInfoMapper.MaxShownBytes], new byte[StreamInfoMapper.MaxShownBytes]);
        for (long done = StreamInfoMapper.MaxShownBytes; done < mine.Length; done += a.Length)
        {
            int count = (int)Math.Min(a.Length, mine.Length - done);
            reference.Bytes!.Read(mine.Offset + done, a.AsSpan(0, count));
            difference.Bytes!.Read(theirs.Offset + done, b.AsSpan(0, count));
            int same = a.AsSpan(0, count).CommonPrefixLength(b);
            if (same < count)
            {
                return done + same;
            }
        }

        return null;
    }

    private void CompareText(string severity, string device, string field, string? a, string? b)
    {
        if (a != b)
        {
            Add(severity, device, field, $"the {field} differs", a ?? "", b ?? "");
        }
    }

    private void Add(string severity, string device, string field, string detail, string a, string b)
    {
        reference.Budget.Take(200, "the list of differences");
        _found.Add(new MigrationStreamDifference { Severity = severity, Device = device, Field = field, Detail = detail, Reference = a, Difference = b });
    }

    private static string Capabilities(StreamContents contents) => string.Join(", ", contents.Configuration?.Capabilities.Order() ?? Enumerable.Empty<string>());

    private static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";
}
