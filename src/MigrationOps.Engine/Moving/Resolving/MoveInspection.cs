using System.Globalization;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Moving;

/// <summary>What is to be looked at.</summary>
internal sealed record MoveInspectionOptions
{
    /// <summary>The journal of the move; null without one.</summary>
    internal string? JournalPath { get; init; }

    /// <summary>How the source's monitor is reached; null for what the journal says.</summary>
    internal QmpMonitorOptions? Source { get; init; }

    /// <summary>How the target's monitor is reached; null for what the journal says.</summary>
    internal QmpMonitorOptions? Target { get; init; }

    /// <summary>Monitors that are connected already; they are used and left as they are.</summary>
    internal QmpMonitor? ConnectedSource { get; init; }

    internal QmpMonitor? ConnectedTarget { get; init; }

    /// <summary>What an operator vouches for.</summary>
    internal IReadOnlyList<MigrationAssumption> Assumptions { get; init; } = [];

    /// <summary>How long a side may take to answer.</summary>
    internal TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(5);

    internal ILogger? Logger { get; init; }
}

/// <summary>Gathers the evidence of a move from both monitors, the journal and the processes, and has it resolved.</summary>
internal sealed class MoveInspection : IAsyncDisposable
{
    private readonly MoveInspectionOptions _options;
    private readonly List<QmpMonitor> _owned = [];

    private MoveInspection(MoveInspectionOptions options) => _options = options;

    /// <summary>What the journal says; null without one.</summary>
    internal MoveHistory? History { get; private set; }

    /// <summary>The source's monitor; null if it does not answer.</summary>
    internal QmpMonitor? Source { get; private set; }

    /// <summary>The target's monitor; null if it does not answer.</summary>
    internal QmpMonitor? Target { get; private set; }

    internal MoveEvidence Evidence { get; private set; } = null!;

    internal MoveFinding Finding { get; private set; } = null!;

    internal List<string> Facts { get; } = [];

    /// <summary>What the target said of itself; null if it did not answer.</summary>
    internal SideAnswer? TargetAnswer { get; private set; }

    /// <summary>What the source said of itself; null if it did not answer.</summary>
    internal SideAnswer? SourceAnswer { get; private set; }

    /// <summary>Looks at everything once.</summary>
    internal static async Task<MoveInspection> LookAsync(MoveInspectionOptions options, CancellationToken cancellationToken)
    {
        var inspection = new MoveInspection(options);
        try
        {
            await inspection.LookAsync(cancellationToken).ConfigureAwait(false);
            return inspection;
        }
        catch
        {
            await inspection.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>The verdict as it is shown.</summary>
    internal QemuMigrationVerdict ToVerdict(IEnumerable<string> done) => new()
    {
        VM = History?.Intent.VM ?? Source?.VMName ?? Target?.VMName,
        RunsAt = Finding.RunsAt,
        SafeAction = Finding.Action,
        Reason = Finding.Reason,
        Evidence = [.. Facts],
        SourceState = Evidence.Source.ToString(),
        TargetState = Evidence.Target.ToString(),
        Source = _options.ConnectedSource?.Name ?? _options.Source?.Endpoint.ToString() ?? History?.Intent.Source.Monitor,
        Target = _options.ConnectedTarget?.Name ?? _options.Target?.Endpoint.ToString() ?? History?.Intent.Target?.Monitor,
        Journal = _options.JournalPath,
        Done = [.. done],
    };

    /// <summary>Leaves the monitors that it connected to.</summary>
    public async ValueTask DisposeAsync()
    {
        foreach (var monitor in _owned)
        {
            await monitor.DisposeAsync().ConfigureAwait(false);
        }
    }

    private async Task LookAsync(CancellationToken cancellationToken)
    {
        if (_options.JournalPath is { } path)
        {
            History = MoveHistory.Read(path);
            AddJournalFacts(History);
        }

        var intent = History?.Intent;
        bool toFile = intent is { Target: null };
        var looks = await Task.WhenAll(
            LookAtAsync("source", intent?.Source, _options.Source, _options.ConnectedSource, cancellationToken),
            LookAtAsync("target", intent?.Target, _options.Target, _options.ConnectedTarget, cancellationToken)).ConfigureAwait(false);
        foreach (var look in looks)
        {
            Facts.AddRange(look.Facts);
        }

        (Source, SourceAnswer) = (looks[0].Monitor, looks[0].Answer);
        (Target, TargetAnswer) = (looks[1].Monitor, looks[1].Answer);
        var source = SourceAnswer?.AsSource() ?? (looks[0].IsDead ? SourceState.Dead : SourceState.Silent);
        var target = TargetAnswer?.AsTarget() ?? (looks[1].IsDead ? TargetState.Dead : toFile || !looks[1].IsKnown ? TargetState.None : TargetState.Silent);
        Evidence = Assume(MoveEvidence.From(History, source, SourceAnswer?.IsMigrating == true, target));
        Finding = MoveResolver.Resolve(Evidence);
    }

    private MoveEvidence Assume(MoveEvidence evidence)
    {
        foreach (var assumption in _options.Assumptions.Distinct())
        {
            bool contradicted = assumption switch
            {
                MigrationAssumption.SourceDead => SourceAnswer is not null,
                MigrationAssumption.TargetDead => TargetAnswer is not null,
                _ => evidence.Ran || evidence.Target is TargetState.Running or TargetState.PostcopyRunning or TargetState.PostcopyPaused,
            };
            if (contradicted)
            {
                throw new MoveException(MoveError.NotRepairable, $"The assumption {assumption} contradicts the evidence: {string.Join("; ", Facts)}.",
                    action: "Leave the assumption out: the evidence is enough.");
            }

            Facts.Add($"assumed: {assumption}");
            evidence = assumption switch
            {
                MigrationAssumption.SourceDead => evidence with { Source = SourceState.Dead, Migrating = false },
                MigrationAssumption.TargetDead => evidence with { Target = TargetState.Dead },
                _ => evidence with { NeverRan = true },
            };
        }

        return evidence;
    }

    private void AddJournalFacts(MoveHistory history)
    {
        string said = string.Join(", ", history.Records.Where(record => record.Record is not (MoveRecordKind.Phase or MoveRecordKind.Action or MoveRecordKind.Started))
            .Select(record => string.Create(CultureInfo.InvariantCulture, $"{record.Record} {record.At:HH:mm:ss.fff}")));
        Facts.Add($"journal: {said}{(history.Unreadable > 0 ? $"; {history.Unreadable} unreadable, which may have been the commit" : "")}");
    }

    private sealed record SideLook(bool IsKnown, QmpMonitor? Monitor, SideAnswer? Answer, bool IsDead, List<string> Facts);

    private async Task<SideLook> LookAtAsync(string side, MoveSide? known, QmpMonitorOptions? address, QmpMonitor? connected, CancellationToken cancellationToken)
    {
        var facts = new List<string>();
        address ??= known is null ? null : new QmpMonitorOptions { Endpoint = Endpoint.Parse(known.Monitor), Security = new TransportSecurity(null, AllowPlaintext: true) };
        SideAnswer? answer = null;
        QmpMonitor? monitor = null;
        if (connected is not null || address is not null)
        {
            try
            {
                monitor = connected ?? await ConnectAsync(address!, cancellationToken).ConfigureAwait(false);
                if (await IsAnotherAsync(monitor, known, cancellationToken).ConfigureAwait(false) is { } other)
                {
                    facts.Add($"{side} {monitor.Name}: {other}");
                    monitor = null;
                }
                else
                {
                    answer = await SideAnswer.AskAsync(monitor, _options.Patience, cancellationToken).ConfigureAwait(false);
                    facts.Add($"{side} {monitor.Name}: {answer}");
                }
            }
            catch (MigrationOpsException e)
            {
                (monitor, answer) = (null, null);
                facts.Add($"{side}: no answer: {e.Message}");
            }
        }

        bool dead = false;
        if (answer is null && known is not null)
        {
            var proof = known.FindProcess();
            dead = proof == ProcessProof.Dead;
            facts.Add(proof switch
            {
                ProcessProof.Dead => string.Create(CultureInfo.InvariantCulture, $"{side}: its process {known.Pid} of {known.Host!.Name} has ended"),
                ProcessProof.Alive => string.Create(CultureInfo.InvariantCulture, $"{side}: its process {known.Pid} is alive"),
                _ => $"{side}: its process cannot be seen from here",
            });
        }

        return new SideLook(known is not null || address is not null || connected is not null, monitor, answer, dead, facts);
    }

    private async Task<QmpMonitor> ConnectAsync(QmpMonitorOptions address, CancellationToken cancellationToken)
    {
        var monitor = await QmpMonitor.ConnectAsync(address with { Timeouts = QmpTimeouts.Of(_options.Patience), AskName = true }, _options.Logger, cancellationToken).ConfigureAwait(false);
        _owned.Add(monitor);
        return monitor;
    }

    // A QEMU that was started since at the same address is not the one of the move.
    private static async Task<string?> IsAnotherAsync(QmpMonitor monitor, MoveSide? known, CancellationToken cancellationToken)
    {
        if (known is null)
        {
            return null;
        }

        var now = await MoveSide.TakeAsync(monitor, cancellationToken).ConfigureAwait(false);
        return known.Pid != 0 && now.Pid != 0 && known.Host == now.Host && (known.Pid != now.Pid || known.StartTime != now.StartTime)
            ? string.Create(CultureInfo.InvariantCulture, $"another QEMU answers there (pid {now.Pid}, not {known.Pid})")
            : known.Host is not null && now.Host is not null && known.Host.BootId != now.Host.BootId ? "the host was booted since; another QEMU answers there"
            : known.Uuid != now.Uuid ? $"another VM answers there (UUID {now.Uuid ?? "none"}, not {known.Uuid ?? "none"})" : null;
    }
}
