using System.Collections.Concurrent;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Truth;

/// <summary>What came of a pair: QEMU's verdict and Compare's.</summary>
/// <param name="Pair">The command lines.</param>
/// <param name="Words">Empty if QEMU loaded the stream, else what it said.</param>
/// <param name="Found">What Compare-MigrationStream tells.</param>
internal sealed record TruthResult(TruthPair Pair, string Words, IReadOnlyList<MigrationStreamDifference> Found)
{
    /// <summary>Instead of a severity where Compare-MigrationStream could not read a stream.</summary>
    internal const string NoVerdict = "NoVerdict";

    internal bool Loads => Words.Length == 0;

    internal bool SaysError => Found.Any(d => d.Severity == "Error");

    internal bool SaysSomething => Found.Any(d => d.Severity is "Error" or "Warning");
}

/// <summary>Runs pairs: each command line saves its stream once, each pair is loaded once, in a folder that may be kept for the next run.</summary>
internal sealed class TruthRun(string folder)
{
    private const int Workers = 2;

    private readonly ConcurrentDictionary<string, Lazy<string?>> _streams = new();
    private readonly ConcurrentDictionary<string, Lazy<string>> _dumps = new();

    /// <summary>Command lines that gave no stream, with the reason.</summary>
    internal ConcurrentDictionary<CommandLine, string> Unusable { get; } = new();

    /// <summary>QEMU's verdicts, with Compare's beside them unless it is left out.</summary>
    internal IReadOnlyList<TruthResult> Run(IReadOnlyList<TruthPair> pairs, Action<string>? progress = null, bool compare = true)
    {
        Directory.CreateDirectory(folder);
        var results = new TruthResult?[pairs.Count];
        int done = 0;
        Parallel.For(0, pairs.Count, new ParallelOptions { MaxDegreeOfParallelism = Workers }, i =>
        {
            results[i] = Run(pairs[i], compare);
            if (Interlocked.Increment(ref done) % 100 == 0)
            {
                progress?.Invoke($"{done} of {pairs.Count}");
            }
        });
        return [.. results.Where(r => r is not null).Select(r => r!)];
    }

    private TruthResult? Run(TruthPair pair, bool compare)
    {
        if (Stream(pair.Source) is not { } source || Stream(pair.Target) is not { } target)
        {
            return null;
        }

        string verdict = Path.Combine(folder, $"{pair.Source.Key}-{pair.Target.Key}.verdict");
        if (!File.Exists(verdict))
        {
            if (TruthQemu.Load(pair.Target, source) is not { } words)
            {
                Unusable[pair.Target] = "it does not start as a destination";
                return null;
            }

            File.WriteAllText(verdict + ".part", words);
            File.Move(verdict + ".part", verdict);
        }

        return new TruthResult(pair, File.ReadAllText(verdict), compare ? Compare(source, target) : []);
    }

    /// <summary>The same verdicts by the destination's -dump-vmstate, for pairs whose command lines say the same: properties are not in a dump.</summary>
    internal IReadOnlyList<TruthResult> RunDumps(IReadOnlyList<TruthResult> results)
    {
        var same = results.Where(r => r.Pair.Source.Arguments == r.Pair.Target.Arguments && r.Pair.Target.Words.Contains("-M")).ToList();
        var again = new TruthResult[same.Count];
        Parallel.For(0, same.Count, new ParallelOptions { MaxDegreeOfParallelism = Workers }, i =>
        {
            var pair = same[i].Pair;
            again[i] = same[i] with
            {
                Pair = pair with { Kind = $"dump: {pair.Kind}" },
                Found = Guarded(() => MigrationStreams.CompareWithDump(new MigrationStreamInput { Path = Stream(pair.Source)! }, Dump(pair.Target))),
            };
        });
        return again;
    }

    private string Dump(CommandLine line) => _dumps.GetOrAdd($"{line.Program} {line.Machine}", _ => new Lazy<string>(() =>
    {
        string path = Path.Combine(folder, $"{line.Program}-{line.Machine}.dump");
        if (!File.Exists(path))
        {
            TruthQemu.Dump(line, path);
        }

        return path;
    })).Value;

    private static IReadOnlyList<MigrationStreamDifference> Compare(string source, string target)
        => Guarded(() => MigrationStreams.Compare(new MigrationStreamInput { Path = source }, new MigrationStreamInput { Path = target }, values: false));

    private static IReadOnlyList<MigrationStreamDifference> Guarded(Func<IReadOnlyList<MigrationStreamDifference>> compare)
    {
        try
        {
            return compare();
        }
        catch (StreamException e)
        {
            return [new MigrationStreamDifference { Severity = TruthResult.NoVerdict, Device = "", Field = "", Detail = e.Message }];
        }
    }

    /// <summary>The path of the command line's stream, or null if there is none.</summary>
    internal string? Stream(CommandLine line) => _streams.GetOrAdd(line.Key, key => new Lazy<string?>(() =>
    {
        string path = Path.Combine(folder, key + ".stream"), failure = Path.Combine(folder, key + ".unusable");
        if (!File.Exists(path) && !File.Exists(failure) && TruthQemu.Save(line, path) is { } words)
        {
            File.WriteAllText(failure, words);
        }

        if (File.Exists(failure))
        {
            Unusable[line] = File.ReadAllText(failure);
            return null;
        }

        return path;
    })).Value;
}
