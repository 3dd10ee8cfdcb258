using System.Diagnostics;
using System.Text.Json;
using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Truth.Preflight;

/// <summary>
/// The pre-flight beside the verdicts that the truth matrix has kept: what the real QEMU did with the stream of each pair. Each command line is
/// started once for its facts, so that thousands of pairs cost hundreds of QEMUs.
/// </summary>
internal sealed class KeptTruth(string folder) : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);
    private static readonly JsonElement Waits = JsonDocument.Parse("""{"status": "inmigrate"}""").RootElement;
    private static readonly JsonElement Nothing = JsonDocument.Parse("{}").RootElement;

    private readonly Dictionary<CommandLine, QemuFacts?> _facts = [];
    private readonly Dictionary<string, QemuProcess> _programs = [];
    private readonly Dictionary<(string, string), LayoutFacts?> _layouts = [];

    /// <summary>Judges the pairs whose verdict is kept, for as long as there is time.</summary>
    internal async Task<IReadOnlyList<PairResult>> RunAsync(IEnumerable<TruthPair> pairs, TimeSpan time)
    {
        var clock = Stopwatch.StartNew();
        var results = new List<PairResult>();
        foreach (var pair in pairs.Where(IsUsable))
        {
            if (clock.Elapsed > time)
            {
                break;
            }

            if (await FactsAsync(pair.Source) is { } source && await FactsAsync(pair.Target) is { } target)
            {
                var facts = new PreflightFacts
                {
                    Source = source,
                    Target = target with { Name = "target", Answers = new Dictionary<string, QmpAnswer>(target.Answers) { ["query-status"] = new(Waits, null), ["query-migrate"] = new(Nothing, null) } },
                    Layouts = await LayoutsAsync(pair.Source.Program, pair.Target.Program),
                    // A stream loads into any CPU; what the guest then does is a matter of the real migrations.
                    Options = new PreflightOptions { Skip = ["CpuFeatures"] },
                };
                string verdict = await File.ReadAllTextAsync(VerdictOf(pair));
                results.Add(new PairResult(new PairKind(pair.Kind, pair.Source.Arguments, pair.Target.Arguments).On(pair.Source.Program, pair.Target.Program), verdict.Length == 0 ? null : verdict,
                    PreflightTest.Assess(facts, DateTime.UnixEpoch, TimeSpan.Zero)));
            }
        }

        return results;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var qemu in _programs.Values)
        {
            await qemu.DisposeAsync();
        }
    }

    // Shared memory was saved with a capability that the command line does not show; a guest that ran has another state.
    private bool IsUsable(TruthPair pair) => pair.Source.Program.StartsWith("qemu-system-x86_64", StringComparison.Ordinal) && !pair.Source.IsBooted && !pair.Target.IsBooted
        && !pair.Source.Arguments.Contains("share=on", StringComparison.Ordinal) && !pair.Target.Arguments.Contains("share=on", StringComparison.Ordinal) && File.Exists(VerdictOf(pair));

    private string VerdictOf(TruthPair pair) => Path.Combine(folder, $"{pair.Source.Key}-{pair.Target.Key}.verdict");

    private async Task<QemuFacts?> FactsAsync(CommandLine line)
    {
        if (!_facts.TryGetValue(line, out var facts))
        {
            _facts.Add(line, facts = await ReadAsync(line));
        }

        return facts;
    }

    private static async Task<QemuFacts?> ReadAsync(CommandLine line)
    {
        try
        {
            await using var qemu = await StartAsync(line.Program, [.. line.Words]);
            var facts = await FactReader.ReadAsync(qemu.Monitor, CancellationToken.None);
            qemu.Kill();
            return facts with { Process = null };
        }
        catch (QmpException e) when (e.Reason == QmpError.StartFailed)
        {
            return null;
        }
    }

    private async Task<LayoutFacts?> LayoutsAsync(string source, string target)
    {
        if (!_layouts.TryGetValue((source, target), out var layouts))
        {
            _layouts.Add((source, target), layouts = await LayoutReader.ReadAsync(await ProcessAsync(source), await ProcessAsync(target), CancellationToken.None));
        }

        return layouts;
    }

    private async Task<ProcessFacts> ProcessAsync(string program)
    {
        if (!_programs.TryGetValue(program, out var qemu))
        {
            _programs.Add(program, qemu = await StartAsync(program, ["-M", "none"]));
        }

        return new ProcessFacts { Id = qemu.Monitor.Peer!.Pid, StartTime = null, Arguments = ProcFiles.CommandLine(qemu.Monitor.Peer.Pid), ResidentBytes = null };
    }

    private static Task<QemuProcess> StartAsync(string program, string[] arguments) => QemuProcess.StartAsync(new QemuProcessOptions
    {
        Program = Programs.Find(program) ?? throw new InvalidOperationException($"{program} is not installed."),
        Timeouts = new QmpTimeouts(Patience, Patience, Patience),
        Arguments = [.. arguments, "-S", "-nodefaults", "-display", "none"],
    });
}
