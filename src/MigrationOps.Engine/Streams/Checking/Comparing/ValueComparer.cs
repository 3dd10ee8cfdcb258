namespace MigrationOps.Engine.Streams;

/// <summary>Lists the values that differ, by what they are: a number, a text, or the first byte of a buffer.</summary>
internal sealed class ValueComparer(StreamContents reference, StreamContents difference, Findings findings, string device)
{
    private const int Piece = 4096;
    private const int MaxHex = 16;

    internal void Compare(StateNode mine, StateNode theirs) => Compare("", mine, theirs);

    private void Compare(string path, StateNode mine, StateNode theirs)
    {
        if (mine.Children is { } children && theirs.Children is { } others)
        {
            CompareMembers(path, children, others);
        }
        else if (FirstDifference(mine, theirs) is { } at)
        {
            if (mine.Length == theirs.Length && IsConfig(mine) && IsConfig(theirs))
            {
                CompareConfig(path, mine, theirs);
                return;
            }

            bool isText = mine.Length > MaxHex && TextOf(reference, mine) is not null && TextOf(difference, theirs) is not null;
            findings.Value(device, path, mine.Length <= MaxHex || isText || mine.Length != theirs.Length ? "the value differs" : $"the value differs from its byte {at:N0} on",
                Text(reference, mine, at), Text(difference, theirs, at));
        }
    }

    private void CompareMembers(string path, StateNode[] mine, StateNode[] theirs)
    {
        var there = theirs.GroupBy(c => c.Name).ToDictionary(g => g.Key, g => new Queue<StateNode>(g));
        var counts = mine.GroupBy(c => c.Name).ToDictionary(g => g.Key, g => g.Count());
        var seen = new Dictionary<string, int>();
        foreach (var child in mine)
        {
            int index = seen.GetValueOrDefault(child.Name);
            seen[child.Name] = index + 1;
            if (there.GetValueOrDefault(child.Name) is { Count: > 0 } queue)
            {
                string name = counts[child.Name] > 1 || child.IsElement && !child.Name.EndsWith(']') ? $"{child.Name}[{index}]" : child.Name;
                Compare(path.Length == 0 ? name : $"{path}.{name}", child, queue.Dequeue());
            }
        }
    }

    private static bool IsConfig(StateNode node)
        => (node.Type == PciConfigRules.FieldType || node.Name == PciConfigRules.FieldType) && node.Length is PciConfigMask.LegacyLength or 4096;

    // One line for what differs together: registers have names, bytes have none.
    private void CompareConfig(string path, StateNode mine, StateNode theirs)
    {
        var (a, b) = (new byte[mine.Length], new byte[mine.Length]);
        reference.Bytes!.Read(mine.Offset, a);
        difference.Bytes!.Read(theirs.Offset, b);
        var mask = PciConfigMask.Of(b);
        for (int i = 0; i < a.Length; i++)
        {
            int first = i;
            while (i < a.Length && a[i] != b[i] && mask.NameOf(i) == mask.NameOf(first))
            {
                i++;
            }

            if (i > first)
            {
                findings.Value(device, path, $"config byte 0x{first:x}, {mask.NameOf(first)}", Convert.ToHexStringLower(a.AsSpan(first, i - first)), Convert.ToHexStringLower(b.AsSpan(first, i - first)));
                i--;
            }
        }
    }

    private long? FirstDifference(StateNode mine, StateNode theirs)
    {
        long common = Math.Min(mine.Length, theirs.Length);
        var (a, b) = (new byte[Piece], new byte[Piece]);
        for (long done = 0; done < common; done += Piece)
        {
            int count = (int)Math.Min(Piece, common - done);
            reference.Bytes!.Read(mine.Offset + done, a.AsSpan(0, count));
            difference.Bytes!.Read(theirs.Offset + done, b.AsSpan(0, count));
            int same = a.AsSpan(0, count).CommonPrefixLength(b.AsSpan(0, count));
            if (same < count)
            {
                return done + same;
            }
        }

        return mine.Length == theirs.Length ? null : common;
    }

    // A buffer that holds a text shows that, any other one the bytes from the first that differs.
    private static string Text(StreamContents contents, StateNode node, long at)
    {
        if (node.Length <= MaxHex || node.Children is not null)
        {
            string value = StreamInfoMapper.ValueText(contents, node);
            return node.Text is { Length: > 0 } text ? $"{value} ({text})" : value;
        }

        if (TextOf(contents, node) is { } words)
        {
            return words;
        }

        var data = new byte[Math.Min(8, node.Length - at)];
        contents.Bytes!.Read(node.Offset + at, data);
        return Convert.ToHexStringLower(data) + (node.Length - at > data.Length ? "…" : "");
    }

    private static string? TextOf(StreamContents contents, StateNode node)
    {
        const int MaxText = 64, MinText = 4;
        var data = new byte[Math.Min(MaxText, node.Length)];
        contents.Bytes!.Read(node.Offset, data);
        int end = Array.IndexOf(data, (byte)0);
        return end >= MinText && data.AsSpan(0, end).IndexOfAnyExceptInRange((byte)0x20, (byte)0x7e) < 0 ? System.Text.Encoding.ASCII.GetString(data, 0, end) : null;
    }
}
