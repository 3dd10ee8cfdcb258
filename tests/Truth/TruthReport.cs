using System.Globalization;

namespace MigrationOps.Truth;

/// <summary>Precision and recall of the verdicts, and every pair where they differ from QEMU's.</summary>
internal sealed class TruthReport(IReadOnlyList<TruthResult> results)
{
    /// <summary>QEMU loads it, and there is an Error: a peer refused for no reason.</summary>
    internal IReadOnlyList<TruthResult> WrongErrors { get; } = [.. results.Where(r => r.Loads && r.SaysError)];

    /// <summary>QEMU refuses it, and there is no Error, but a Warning.</summary>
    internal IReadOnlyList<TruthResult> Warned { get; } = [.. results.Where(r => !r.Loads && !r.SaysError && r.SaysSomething)];

    /// <summary>QEMU refuses it, and nothing says so.</summary>
    internal IReadOnlyList<TruthResult> Silent { get; } = [.. results.Where(r => !r.Loads && !r.SaysSomething)];

    internal int Count => results.Count;

    internal int Refused => results.Count(r => !r.Loads);

    internal int Errors => results.Count(r => r.SaysError);

    /// <summary>Of the pairs with an Error, how many QEMU refuses.</summary>
    internal double Precision => Errors == 0 ? 1 : (double)(Errors - WrongErrors.Count) / Errors;

    /// <summary>Of the pairs that QEMU refuses, how many have an Error.</summary>
    internal double Recall => Refused == 0 ? 1 : (double)(Errors - WrongErrors.Count) / Refused;

    /// <summary>Writes the mistakes, the kinds and the sum.</summary>
    /// <param name="output">Where to.</param>
    /// <param name="all">True for the pairs that load with a Warning as well.</param>
    internal void Write(TextWriter output, bool all)
    {
        if (all)
        {
            Write(output, "LOADS WITH A WARNING", [.. results.Where(r => r.Loads && !r.SaysError && r.SaysSomething)]);
        }

        Write(output, "LOADS, BUT ERROR", WrongErrors);
        Write(output, "REFUSED, SILENT", Silent);
        Write(output, "REFUSED, ONLY A WARNING", Warned);
        foreach (var kind in results.GroupBy(r => r.Pair.Kind).OrderBy(g => g.Key, StringComparer.Ordinal))
        {
            output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{kind.Key,-32} {kind.Count(),5} pairs {kind.Count(r => !r.Loads),5} refused {kind.Count(r => !r.Loads && r.SaysError),5} Error {kind.Count(r => !r.Loads && !r.SaysError && r.SaysSomething),5} Warning {kind.Count(r => !r.Loads && !r.SaysSomething),5} silent {kind.Count(r => r.Loads && r.SaysError),5} wrong {kind.Count(r => r.Loads && !r.SaysError && r.SaysSomething),5} loads with a Warning"));
        }

        output.WriteLine(Summary);
    }

    internal string Summary => string.Create(CultureInfo.InvariantCulture,
        $"{results.Count} pairs, {Refused} refused, {Errors} with an Error: precision {Precision:P1}, recall {Recall:P1}; {WrongErrors.Count} load in spite of an Error, {Warned.Count} refused with a Warning, {Silent.Count} refused in silence");

    private static void Write(TextWriter output, string title, IReadOnlyList<TruthResult> results)
    {
        foreach (var result in results)
        {
            output.WriteLine($"{title} [{result.Pair.Kind}]");
            output.WriteLine($"  from {result.Pair.Source}");
            output.WriteLine($"  to   {result.Pair.Target}");
            output.WriteLine($"  QEMU: {(result.Loads ? "loads" : result.Words.ReplaceLineEndings(" | "))}");
            foreach (var found in result.Found.Take(6))
            {
                output.WriteLine($"  {found.Severity}: {found.Device} {found.Field}: {found.Detail} [{found.Reference}] [{found.Difference}]");
            }
        }
    }
}
