using MigrationOps.Engine;
using MigrationOps.Engine.Rehearsal;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Truth;

/// <summary>What a rehearsal said of a pair.</summary>
/// <param name="Pair">The pair, with QEMU's verdict.</param>
/// <param name="MemorySkipped">True if the pages of guest memory were left out.</param>
/// <param name="Said">One of the constants here.</param>
/// <param name="Words">What it said besides.</param>
internal sealed record RehearsalVerdict(TruthResult Pair, bool MemorySkipped, string Said, string Words)
{
    internal const string Loads = "loads";
    internal const string Refused = "refused";

    /// <summary>The rehearsal did not come to a verdict.</summary>
    internal const string None = "none";

    internal bool IsRight => Said == (Pair.Loads ? Loads : Refused);
}

/// <summary>Rehearses pairs, one after the other, in the folder of a <see cref="TruthRun"/>: what was rehearsed there once is kept.</summary>
internal sealed class TruthRehearsal(TruthRun run, string folder)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <summary>Rehearses with memory first, then without.</summary>
    /// <param name="results">The pairs with QEMU's verdicts.</param>
    /// <param name="most">How many rehearsals to run; those that the folder has count for nothing. What is left out has no verdict here.</param>
    /// <param name="progress">Told how far it is.</param>
    internal IReadOnlyList<RehearsalVerdict> Run(IReadOnlyList<TruthResult> results, int most, Action<string> progress)
    {
        var verdicts = new List<RehearsalVerdict>();
        int ran = 0;
        foreach (var (skipMemory, result) in new[] { false, true }.SelectMany(skip => results.Select(r => (skip, r))))
        {
            string path = Path.Combine(folder, $"{result.Pair.Source.Key}-{result.Pair.Target.Key}.{(skipMemory ? "rehearsal-without-memory" : "rehearsal")}");
            if (!File.Exists(path))
            {
                if (ran++ >= most)
                {
                    continue;
                }

                var (said, words) = Ask(run.Stream(result.Pair.Source)!, result.Pair.Target, skipMemory);
                if (said == RehearsalVerdict.None)
                {
                    // The next run tries again.
                    verdicts.Add(new RehearsalVerdict(result, skipMemory, said, words));
                    continue;
                }

                File.WriteAllText(path + ".part", $"{said}\n{words}");
                File.Move(path + ".part", path);
            }

            string[] kept = File.ReadAllText(path).Split('\n', 2);
            verdicts.Add(new RehearsalVerdict(result, skipMemory, kept[0], kept[1]));
            if (verdicts.Count % 100 == 0)
            {
                progress($"{verdicts.Count} of {2 * results.Count} rehearsals, {verdicts.Count(v => !v.IsRight)} not as QEMU");
            }
        }

        return verdicts;
    }

    private static (string Said, string Words) Ask(string stream, CommandLine target, bool skipMemory)
    {
        using var scope = new TransferScope(Patience);
        try
        {
            var rehearsal = StreamRehearsal.RunAsync(new RehearsalOptions
            {
                Input = new MigrationStreamInput { Path = stream },
                Program = Programs.Find(target.Program)!,
                ArgumentList = [.. target.Words, "-nodefaults"],
                WorkingDirectory = "/",
                SkipMemory = skipMemory,
                Timeout = Patience,
            }, scope).GetAwaiter().GetResult();
            return (rehearsal.Passed ? RehearsalVerdict.Loads : RehearsalVerdict.Refused,
                $"{rehearsal.Kind} {rehearsal.Section} {rehearsal.Field}\n{string.Join('\n', rehearsal.QemuOutput)}");
        }
        catch (MigrationOpsException e)
        {
            return (RehearsalVerdict.None, $"{e.ErrorId}: {e.Message}");
        }
    }
}
