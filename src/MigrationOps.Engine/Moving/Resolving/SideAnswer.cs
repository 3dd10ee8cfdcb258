using System.Globalization;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Moving;

/// <summary>What one QEMU says of itself.</summary>
/// <param name="RunState">The run state in QEMU's word.</param>
/// <param name="Runs">True if its CPUs run.</param>
/// <param name="Migration">The status of its migration in QEMU's word; null if it reports none.</param>
/// <param name="Error">Why its migration failed, in QEMU's words.</param>
internal sealed record SideAnswer(string RunState, bool Runs, string? Migration, string? Error)
{
    internal bool IsMigrating => Migration is "setup" or "active" or "cancelling" or "device" or "pre-switchover" or "wait-unplug" or "failing" or "postcopy-device";

    internal bool HasEnded => Migration is "completed" or "failed" or "cancelled";

    internal bool IsPostcopy => Migration is "postcopy-active" or "postcopy-recover" or "postcopy-recover-setup" or "postcopy-paused";

    /// <summary>Asks for both.</summary>
    internal static async Task<SideAnswer> AskAsync(QmpMonitor monitor, TimeSpan? timeout, CancellationToken cancellationToken)
    {
        var answers = await Task.WhenAll(
            monitor.ExecuteAsync(new QmpCommand("query-status"), timeout, cancellationToken),
            monitor.ExecuteAsync(new QmpCommand("query-migrate"), timeout, cancellationToken)).ConfigureAwait(false);
        return new SideAnswer(answers[0].Text("status") ?? "unknown", answers[0].Flag("running") == true, answers[1].Text("status"), answers[1].Text("error-desc"));
    }

    internal SourceState AsSource() => this switch
    {
        { Migration: "postcopy-paused" } => SourceState.PostcopyPaused,
        { IsPostcopy: true } => SourceState.Postcopy,
        { Runs: true } => SourceState.Running,
        { Migration: "completed" } => SourceState.Sent,
        { RunState: "finish-migrate" } => SourceState.Switching,
        { RunState: "paused" or "suspended" or "prelaunch" or "postmigrate" } => SourceState.Paused,
        _ => SourceState.Halted,
    };

    internal TargetState AsTarget() => this switch
    {
        { Migration: "postcopy-paused", Runs: true } => TargetState.PostcopyRunning,
        { Migration: "postcopy-paused" } => TargetState.PostcopyPaused,
        { IsPostcopy: true, Runs: true } => TargetState.PostcopyRunning,
        { IsPostcopy: true, RunState: not "inmigrate" } => TargetState.PostcopyHeld,
        { Runs: true } => TargetState.Running,
        { Migration: "failed" } => TargetState.Failed,
        { RunState: "inmigrate" } => TargetState.Waiting,
        { Migration: "completed", RunState: "paused" or "prelaunch" or "suspended" or "postmigrate" } => TargetState.Loaded,
        _ => TargetState.Halted,
    };

    /// <summary>Both words.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{RunState}, migration {Migration ?? "none"}{(Error is null ? "" : $": {Error}")}");
}
