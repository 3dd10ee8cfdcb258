using System.Globalization;

namespace MigrationOps.Truth.Preflight;

/// <summary>
/// truth --preflight --kept FOLDER [--minutes N] [--kind PATTERN]: beside the verdicts that a run of the matrix has left in the folder.
/// truth --preflight [--short | --across] [--kind PATTERN] [--from KIND] [--program NAME,...] [--verbose]: real migrations.
/// </summary>
internal static class PairProgram
{
    internal static async Task<int> RunAsync(string[] args)
    {
        if (Option(args, "--kept") is { } folder)
        {
            await using var kept = new KeptTruth(folder);
            var chosen = Matrix.Long(folder).Where(pair => Option(args, "--kind") is not { } wanted || pair.Kind.Contains(wanted, StringComparison.OrdinalIgnoreCase));
            var found = new PairReport(await kept.RunAsync(chosen, TimeSpan.FromMinutes(double.Parse(Option(args, "--minutes") ?? "1000", CultureInfo.InvariantCulture))));
            found.Write(Console.Out);
            return found.FalseBlockers.Count > 0 ? 1 : 0;
        }

        string[] programs = Option(args, "--program")?.Split(',') ?? [.. PairKinds.Programs.Where(program => Programs.Find(program) is not null)];
        var pairs = (args.Contains("--short") ? programs.SelectMany(PairKinds.Short) : args.Contains("--across") ? PairKinds.Across(programs) : PairKinds.Each(programs).Concat(PairKinds.Across(programs))).ToList();
        if (Option(args, "--kind") is { } kind)
        {
            pairs = [.. pairs.Where(pair => pair.Kind.Contains(kind, StringComparison.OrdinalIgnoreCase))];
        }

        if (Option(args, "--from") is { } first)
        {
            pairs = [.. pairs.SkipWhile(pair => pair.Kind != first)];
        }

        var results = new List<PairResult>();
        foreach (var pair in pairs)
        {
            if (await PairRun.RunAsync(pair, why => Console.WriteLine($"DOES NOT START [{pair}]\n  {why.ReplaceLineEndings(" | ")}")) is not { } result)
            {
                continue;
            }

            results.Add(result);
            if (args.Contains("--verbose"))
            {
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"[{pair}]\n  QEMU: {(result.Failure ?? "migrates").ReplaceLineEndings(" | ")}\n  {result.Report.Duration.TotalMilliseconds:0} ms, {result.Report}"));
                foreach (var check in result.Report.Checks.Where(check => check.Status != QemuCheckStatus.Passed))
                {
                    Console.WriteLine($"    {check} {string.Join("; ", check.Data.Take(5))} -> {check.RecommendedAction}");
                }
            }
            else if (results.Count % 50 == 0)
            {
                Console.Error.WriteLine($"{results.Count} of {pairs.Count}");
            }
        }

        var report = new PairReport(results);
        report.Write(Console.Out);
        return report.FalseBlockers.Count > 0 ? 1 : 0;
    }

    private static string? Option(string[] args, string name) => Array.IndexOf(args, name) is >= 0 and var at && at + 1 < args.Length ? args[at + 1] : null;
}
