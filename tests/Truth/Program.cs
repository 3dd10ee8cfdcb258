using System.Globalization;
using MigrationOps.Truth;

// truth --preflight ...: the pre-flight beside real migrations, see PairProgram
if (args.Contains("--preflight"))
{
    return await MigrationOps.Truth.Preflight.PairProgram.RunAsync(args);
}

// truth [--folder DIR] [--short] [--kind PATTERN] [--all] [--dumps] [--rehearse [--first PAIRS] [--most REHEARSALS]]
string folder = Option("--folder") ?? Path.Combine(Path.GetTempPath(), $"migrationops-truth-{Environment.ProcessId}");
var pairs = args.Contains("--short") ? Matrix.Short() : Matrix.Long(folder);
if (args.Contains("--count"))
{
    foreach (var group in pairs.GroupBy(p => p.Kind))
    {
        Console.WriteLine($"{group.Count(),6} {group.Key}");
    }

    Console.WriteLine($"{pairs.Count,6}");
    return 0;
}

if (Option("--kind") is { } kind)
{
    pairs = [.. pairs.Where(p => p.Kind.Contains(kind, StringComparison.OrdinalIgnoreCase))];
}

var run = new TruthRun(folder);
RehearsalReport? rehearsed = null;
if (args.Contains("--rehearse"))
{
    // The refusals first: they are what counts.
    var known = run.Run(pairs, compare: false).OrderBy(r => r.Loads).ToList();
    known = [.. known.Take(Number("--first"))];
    var verdicts = new TruthRehearsal(run, folder).Run(known, Number("--most"), Console.Error.WriteLine);
    pairs = [.. verdicts.Select(v => v.Pair.Pair).Distinct()];
    rehearsed = new RehearsalReport(verdicts);
}

var results = run.Run(pairs, Console.Error.WriteLine);
var report = new TruthReport(args.Contains("--dumps") ? run.RunDumps(results) : results);
foreach (var line in run.Unusable.Where(_ => args.Contains("--all")))
{
    Console.WriteLine($"UNUSABLE {line.Key}: {line.Value.ReplaceLineEndings(" ")}");
}

report.Write(Console.Out, args.Contains("--all"));
rehearsed?.Write(Console.Out, results);
return report.WrongErrors.Count + (rehearsed?.Wrong.Count ?? 0) > 0 ? 1 : 0;

string? Option(string name) => Array.IndexOf(args, name) is >= 0 and var at && at + 1 < args.Length ? args[at + 1] : null;

int Number(string name) => Option(name) is { } text ? int.Parse(text, CultureInfo.InvariantCulture) : int.MaxValue;
