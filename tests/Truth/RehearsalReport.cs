using System.Globalization;

namespace MigrationOps.Truth;

/// <summary>Compare and the rehearsals beside QEMU, for each pair of releases, and every rehearsal that said something else than QEMU.</summary>
internal sealed class RehearsalReport(IReadOnlyList<RehearsalVerdict> verdicts)
{
    /// <summary>Rehearsals that QEMU contradicts.</summary>
    internal IReadOnlyList<RehearsalVerdict> Wrong { get; } = [.. verdicts.Where(v => v.Said != RehearsalVerdict.None && !v.IsRight)];

    /// <summary>Rehearsals that came to no verdict.</summary>
    internal IReadOnlyList<RehearsalVerdict> WithoutVerdict { get; } = [.. verdicts.Where(v => v.Said == RehearsalVerdict.None)];

    /// <summary>Writes the mistakes, a line for each pair of releases, and the sum.</summary>
    /// <param name="output">Where to.</param>
    /// <param name="compared">The same pairs with what Compare says.</param>
    internal void Write(TextWriter output, IReadOnlyList<TruthResult> compared)
    {
        var errors = compared.Where(r => r.SaysError).Select(r => r.Pair).ToHashSet();
        foreach (var verdict in Wrong.Concat(WithoutVerdict))
        {
            output.WriteLine($"REHEARSAL {(verdict.MemorySkipped ? "without memory " : "")}says {verdict.Said} [{verdict.Pair.Pair.Kind}]");
            output.WriteLine($"  from {verdict.Pair.Pair.Source}");
            output.WriteLine($"  to   {verdict.Pair.Pair.Target}");
            output.WriteLine($"  QEMU: {(verdict.Pair.Loads ? "loads" : verdict.Pair.Words.ReplaceLineEndings(" | "))}");
            output.WriteLine($"  rehearsal: {verdict.Words.ReplaceLineEndings(" | ")}");
        }

        output.WriteLine("| from | to | pairs | refused | Compare: precision | recall | rehearsal: precision | recall | without memory: precision | recall |");
        output.WriteLine("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        foreach (var releases in verdicts.GroupBy(v => (From: v.Pair.Pair.Source.Release, To: v.Pair.Pair.Target.Release)).OrderBy(g => g.Key.From).ThenBy(g => g.Key.To))
        {
            output.WriteLine(Row($"| {releases.Key.From} | {releases.Key.To} |", [.. releases], errors));
        }

        output.WriteLine(Row("| all | all |", verdicts, errors));
    }

    private static string Row(string name, IReadOnlyList<RehearsalVerdict> all, HashSet<TruthPair> errors)
    {
        var pairs = all.Where(v => !v.MemorySkipped).ToList();
        return string.Create(CultureInfo.InvariantCulture,
            $"{name} {pairs.Count} | {pairs.Count(v => !v.Pair.Loads)} |{Score(pairs, v => errors.Contains(v.Pair.Pair))}{Score(pairs, IsRefused)}{Score([.. all.Where(v => v.MemorySkipped)], IsRefused)}");
    }

    private static bool IsRefused(RehearsalVerdict verdict) => verdict.Said == RehearsalVerdict.Refused;

    private static string Score(List<RehearsalVerdict> pairs, Func<RehearsalVerdict, bool> saysRefused)
    {
        int said = pairs.Count(saysRefused), refused = pairs.Count(v => !v.Pair.Loads), right = pairs.Count(v => saysRefused(v) && !v.Pair.Loads);
        return $" {Share(right, said)} | {Share(right, refused)} |";
    }

    private static string Share(int part, int of) => of == 0 ? "-" : string.Create(CultureInfo.InvariantCulture, $"{100.0 * part / of:0.#} %");
}
