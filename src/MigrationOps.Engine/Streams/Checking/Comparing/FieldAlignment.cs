namespace MigrationOps.Engine.Streams;

/// <summary>
/// Puts the fields of two layouts beside each other. What counts is their order and what they take in the stream; names
/// only find the place where something was added or left out.
/// </summary>
internal static class FieldAlignment
{
    private const int Rename = 3;
    private const int Skip = 4;

    // Layouts have some hundred fields; more than this is a stream that was made to cost time.
    private const long MaxWork = 4_000_000;

    /// <summary>A stretch of fields that stand for each other: one of each, or some on either side that have no counterpart.</summary>
    internal readonly record struct Stretch(List<FieldGroup> Mine, List<FieldGroup> Theirs)
    {
        internal bool IsPair => Mine.Count == 1 && Theirs.Count == 1 && Mine[0].Name == Theirs[0].Name;
    }

    internal static List<Stretch> Align(List<FieldGroup> mine, List<FieldGroup> theirs)
    {
        int n = mine.Count, m = theirs.Count;
        if ((long)n * m > MaxWork)
        {
            return [new Stretch(mine, theirs)];
        }

        var cost = new int[n + 1, m + 1];
        for (int i = n; i >= 0; i--)
        {
            for (int j = m; j >= 0; j--)
            {
                if (i == n || j == m)
                {
                    cost[i, j] = Skip * (n - i + m - j);
                    continue;
                }

                int best = Skip + Math.Min(cost[i + 1, j], cost[i, j + 1]);
                if (MatchCost(mine[i], theirs[j]) is { } match)
                {
                    best = Math.Min(best, match + cost[i + 1, j + 1]);
                }

                cost[i, j] = best;
            }
        }

        var stretches = new List<Stretch>();
        var (a, b) = (new List<FieldGroup>(), new List<FieldGroup>());
        for (int i = 0, j = 0; i < n || j < m;)
        {
            if (i < n && j < m && MatchCost(mine[i], theirs[j]) is { } match && cost[i, j] == match + cost[i + 1, j + 1])
            {
                // Fields of one name and another width are settled together with their neighbours.
                if (SameName(mine[i], theirs[j]) && (mine[i].IsStruct || mine[i].Length == theirs[j].Length || mine[i].Count != theirs[j].Count || mine[i].EndsItself))
                {
                    Close();
                    stretches.Add(new Stretch([mine[i++]], [theirs[j++]]));
                    continue;
                }

                a.Add(mine[i++]);
                b.Add(theirs[j++]);
            }
            else if (i < n && cost[i, j] == Skip + cost[i + 1, j])
            {
                a.Add(mine[i++]);
            }
            else
            {
                b.Add(theirs[j++]);
            }
        }

        Close();
        return stretches;

        void Close()
        {
            if (a.Count + b.Count > 0)
            {
                stretches.Add(new Stretch(a, b));
                (a, b) = ([], []);
            }
        }
    }

    private static bool SameName(FieldGroup mine, FieldGroup theirs) => mine.Name == theirs.Name && mine.IsStruct == theirs.IsStruct;

    private static int? MatchCost(FieldGroup mine, FieldGroup theirs)
        => SameName(mine, theirs) ? 0 : mine.Length == theirs.Length ? Rename : null;
}
