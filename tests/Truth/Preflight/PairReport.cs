using System.Globalization;

namespace MigrationOps.Truth.Preflight;

/// <summary>Precision and recall of the pre-flight, of all of it and by check, and every pair where it and QEMU differ.</summary>
internal sealed class PairReport(IReadOnlyList<PairResult> results)
{
    /// <summary>The migration worked in spite of a Blocker: a peer refused for no reason.</summary>
    internal IReadOnlyList<PairResult> FalseBlockers { get; } = [.. results.Where(result => result.Loads && result.SaysBlocker)];

    /// <summary>The migration failed, and no Blocker said so.</summary>
    internal IReadOnlyList<PairResult> Misses { get; } = [.. results.Where(result => !result.Loads && !result.SaysBlocker)];

    internal int Count => results.Count;

    internal int Refused => results.Count(result => !result.Loads);

    internal double MissRate => results.Count == 0 ? 0 : (double)Misses.Count / results.Count;

    internal void Write(TextWriter output)
    {
        foreach (var result in FalseBlockers)
        {
            Write(output, "WORKS IN SPITE OF A BLOCKER", result);
        }

        foreach (var result in Misses)
        {
            Write(output, result.With(QemuCheckStatus.Warning).Any() ? "MISS, BUT A WARNING" : "MISS", result);
        }

        output.WriteLine();
        output.WriteLine("| check | Blocker | of which failed | precision | failures with no other Blocker |");
        output.WriteLine("| --- | ---: | ---: | ---: | ---: |");
        foreach (var check in results.SelectMany(result => result.With(QemuCheckStatus.Blocker).Select(check => (check.Name, Result: result))).GroupBy(pair => pair.Name).OrderBy(group => group.Key, StringComparer.Ordinal))
        {
            int failed = check.Count(pair => !pair.Result.Loads), alone = check.Count(pair => !pair.Result.Loads && pair.Result.Report.Blockers == 1);
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {check.Key} | {check.Count()} | {failed} | {(double)failed / check.Count():P1} | {alone} |"));
        }

        int blocked = results.Count(result => result.SaysBlocker);
        output.WriteLine();
        output.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{Count} pairs of {results.Select(result => result.Pair.Kind).Distinct().Count()} kinds, {Refused} failed, {blocked} with a Blocker: precision {(blocked == 0 ? 1 : (double)(blocked - FalseBlockers.Count) / blocked):P1}, recall {(Refused == 0 ? 1 : (double)(Refused - Misses.Count) / Refused):P1}; {FalseBlockers.Count} false Blockers, {Misses.Count} misses ({MissRate:P1} of the pairs)"));
    }

    private static void Write(TextWriter output, string title, PairResult result)
    {
        output.WriteLine($"{title} [{result.Pair}]");
        output.WriteLine($"  QEMU: {(result.Failure ?? "migrates").ReplaceLineEndings(" | ")}");
        foreach (var check in result.Report.Checks.Where(check => check.Status is QemuCheckStatus.Blocker or QemuCheckStatus.Warning or QemuCheckStatus.Unknown))
        {
            output.WriteLine($"  {check}");
        }
    }
}
