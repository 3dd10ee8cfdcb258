using System.Diagnostics;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Rehearsal;

namespace MigrationOps.Engine.Moving;

/// <content>The commit, the way back, and what is said at the end.</content>
internal sealed partial class MigrationMove
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(5);

    private bool WasPaused => _intent!.WasPaused;

    // The source has said that it is done. What the target says decides whether the VM is given to it.
    private async Task CommitAsync()
    {
        var answer = await WaitForTargetAsync().ConfigureAwait(false);
        var state = answer.AsTarget();
        _downtime!.CommitBegun = Stopwatch.GetTimestamp();
        if (_phase.Current is not (MovePhase.Switching or MovePhase.Postcopy or MovePhase.Loading))
        {
            _phase.Enter(MovePhase.Switching);
        }

        bool postcopy = _phase.Current == MovePhase.Postcopy;
        _phase.Enter(MovePhase.Committing);
        await AppendAsync(
            new MoveRecord { Record = MoveRecordKind.Completed, Note = answer.ToString() },
            new MoveRecord { Record = MoveRecordKind.Commit }).ConfigureAwait(false);
        _committed = true;
        _downtime.CommitDone = Stopwatch.GetTimestamp();

        // A guest that was paused stays paused, and one that has stopped for a reason of its own stays as it is.
        if (!WasPaused && state is TargetState.Loaded or TargetState.PostcopyHeld)
        {
            var (outcome, words) = await SideControl.ContinueAsync(_target!, options.StepTimeout).ConfigureAwait(false);
            if (outcome == ContinueOutcome.Refused)
            {
                _committed = false;
                await AppendAsync(new MoveRecord { Record = MoveRecordKind.Refused, Note = words }).ConfigureAwait(false);
                throw new MoveException(MoveError.TargetRefused, $"{_target!.Name}: the target has everything and refused to start: {words}");
            }

            if (outcome == ContinueOutcome.Unknown)
            {
                throw new MoveException(MoveError.CommitUnknown, $"{_target!.Name}: the commit is in the journal, 'cont' was sent, and no answer tells whether the target runs: {words}");
            }
        }

        await AppendAsync(new MoveRecord { Record = MoveRecordKind.Running, Note = WasPaused ? "paused, as it was" : null }).ConfigureAwait(false);
        await EnterAsync(postcopy ? MovePhase.Postcopy : MovePhase.Running).ConfigureAwait(false);
    }

    // A target that is not complete yet is waited for, and so is one that does not answer: nothing can start it meanwhile.
    private async Task<SideAnswer> WaitForTargetAsync()
    {
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            MigrationOpsException? problem = null;
            try
            {
                var answer = await SideAnswer.AskAsync(_target!, null, CancellationToken.None).ConfigureAwait(false);
                switch (answer.AsTarget())
                {
                    case TargetState.Failed:
                        _targetError = answer.Error;
                        throw new MoveException(MoveError.TargetRefused, $"{_target!.Name}: the target failed to load: {answer.Error ?? "QEMU gives no reason"}.");
                    case not TargetState.Waiting:
                        return answer;
                }

                await EnterAsync(_phase.Current == MovePhase.Switching ? MovePhase.Loading : _phase.Current).ConfigureAwait(false);
            }
            catch (QmpException e)
            {
                problem = e;
            }

            if (Stopwatch.GetElapsedTime(start) > options.StepTimeout || problem is QmpException { Reason: QmpError.QemuExited or QmpError.DifferentQemu })
            {
                throw new MoveException(MoveError.NotRunning, $"{_target!.Name}: the source has sent everything, and the target {(problem is null ? "is not complete" : $"does not answer: {problem.Message}")}", problem);
            }

            await Task.Delay(Look).ConfigureAwait(false);
        }
    }

    // The guest runs at the target; the source holds what is left of its memory.
    private async Task FinishPostcopyAsync()
    {
        if (_phase.Current != MovePhase.Postcopy)
        {
            return;
        }

        while (true)
        {
            var answer = await SideAnswer.AskAsync(_source, null, CancellationToken.None).ConfigureAwait(false);
            if (answer.Migration == "postcopy-paused")
            {
                await EnterAsync(MovePhase.PostcopyPaused).ConfigureAwait(false);
                throw new MoveException(MoveError.MigrationFailed, $"{_source.Name}: the connection broke in postcopy: {answer.Error ?? "QEMU gives no reason"}.",
                    action: "Resume the migration: the guest runs at the target and needs what the source still has. End neither.");
            }

            if (answer.HasEnded)
            {
                if (answer.Migration != "completed")
                {
                    throw new MoveException(MoveError.GuestLost, $"{_source.Name}: the postcopy migration has ended as '{answer}'.");
                }

                await EnterAsync(MovePhase.Running).ConfigureAwait(false);
                return;
            }

            await PauseAsync(_source.Events.Last, Stopwatch.GetTimestamp(), CancellationToken.None).ConfigureAwait(false);
        }
    }

    private async Task EndSourceAsync()
    {
        // The numbers of the whole; nothing depends on them.
        await TryStepAsync("ask the source for its numbers", SampleAsync).ConfigureAwait(false);
        if (options.KeepSource)
        {
            _notes.Add("the source is kept, stopped");
            return;
        }

        // Only one that has sent everything: whatever else it is, a person has to look at it. The VM is the target's, whatever becomes of this.
        await TryStepAsync("end the source", async () =>
        {
            var answer = await SideControl.SettleAsync(_source, options.StepTimeout).ConfigureAwait(false);
            _notes.Add(answer.AsSource() != SourceState.Sent ? $"the source is '{answer}' and was not ended"
                : await SideControl.QuitAsync(_source).ConfigureAwait(false) ? "the source was postmigrate and has been ended"
                : "the source does not end; it is postmigrate, and must not be continued");
        }).ConfigureAwait(false);
    }

    private async Task RollBackAsync(MoveException failure)
    {
        if (_committed || _phase.Current is MovePhase.Postcopy or MovePhase.PostcopyPaused)
        {
            await TryStepAsync("enter the phase", () => _phase.Current == MovePhase.Running ? Task.CompletedTask : EnterAsync(MovePhase.Failing)).ConfigureAwait(false);
            return;
        }

        bool isCancelled = failure.Reason is MoveError.Cancelled or MoveError.TooLong or MoveError.NotConverging;
        await TryStepAsync("enter the phase", () => EnterAsync(isCancelled && MovePhases.MayFollow(_phase.Current, MovePhase.Cancelling) ? MovePhase.Cancelling : MovePhase.Failing)).ConfigureAwait(false);
        SideAnswer? source = null;
        if (_migrateSent)
        {
            await TryStepAsync("cancel the migration", async () => source = await SideControl.CancelAsync(_source, options.StepTimeout).ConfigureAwait(false)).ConfigureAwait(false);
        }

        bool targetIsGone = await EndTargetAsync().ConfigureAwait(false);
        await TryStepAsync("ask the source", async () => source = await SideAnswer.AskAsync(_source, null, CancellationToken.None).ConfigureAwait(false)).ConfigureAwait(false);
        if (source is not null && _migrateSent && options.Mode != QemuMigrationMode.File)
        {
            await GiveBackAsync(source, targetIsGone).ConfigureAwait(false);
        }
        else if (source is not null && _migrateSent && !WasPaused && source.AsSource() is SourceState.Sent or SourceState.Paused or SourceState.Switching)
        {
            // Into a file: there is no other side that could run.
            await ContinueSourceAsync().ConfigureAwait(false);
        }
    }

    // A target that has begun can load nothing else. Ended, it is proven not to run.
    private async Task<bool> EndTargetAsync()
    {
        if (_target is null || !_incomingStarted)
        {
            await RestoreAsync(_targetSettings).ConfigureAwait(false);
            return false;
        }

        bool gone = false;
        await TryStepAsync("end the target", async () =>
        {
            SideAnswer answer;
            try
            {
                answer = await SideAnswer.AskAsync(_target, null, CancellationToken.None).ConfigureAwait(false);
            }
            catch (MigrationOpsException e) when (SideControl.IsGone(e))
            {
                gone = true;
                return;
            }

            _targetError ??= answer.Error;
            if (answer.Runs)
            {
                _notes.Add("the target runs, although it was never let go");
                return;
            }

            gone = await SideControl.QuitAsync(_target).ConfigureAwait(false);
            _notes.Add(gone ? "the target was ended; start it again before the next attempt" : "the target does not end: end it before anything else");
        }).ConfigureAwait(false);
        return gone;
    }

    private async Task GiveBackAsync(SideAnswer source, bool targetIsGone)
    {
        var state = source.AsSource();
        bool stands = state is SourceState.Sent or SourceState.Switching or SourceState.Paused;
        if (!stands || (WasPaused && state == SourceState.Paused))
        {
            return;
        }

        // Nothing but 'cont' starts a target that has taken 'stop', and it got none.
        if (!targetIsGone && !_armed)
        {
            return;
        }

        await TryStepAsync("give the VM back to the source", async () =>
        {
            await AppendAsync(new MoveRecord { Record = MoveRecordKind.Abandoned }).ConfigureAwait(false);
            if (!WasPaused)
            {
                await ContinueSourceAsync().ConfigureAwait(false);
            }
        }).ConfigureAwait(false);
    }

    private async Task ContinueSourceAsync()
    {
        var (outcome, words) = await SideControl.ContinueAsync(_source, options.StepTimeout).ConfigureAwait(false);
        _notes.Add(outcome == ContinueOutcome.Runs ? "the source was continued" : $"the source did not continue: {words}");
    }

    private async Task RestoreAsync(SideSettings? settings)
    {
        if (settings is not null && await settings.RestoreAsync().ConfigureAwait(false) is { } problem)
        {
            _notes.Add(problem);
        }
    }

    // A step of the way back: when it fails the next one is done all the same, and the failure is part of the evidence.
    private async Task TryStepAsync(string what, Func<Task> step)
    {
        try
        {
            await step().ConfigureAwait(false);
        }
        catch (MigrationOpsException e)
        {
            _notes.Add($"could not {what}: {e.Message}");
        }
    }

    private async Task<MoveEnd> EndAsync(MoveException? failure)
    {
        bool sourceStays = failure is not null || options.KeepSource || options.Mode == QemuMigrationMode.File;
        if (sourceStays)
        {
            await RestoreAsync(_sourceSettings).ConfigureAwait(false);
        }

        if (failure is null)
        {
            await RestoreAsync(_targetSettings).ConfigureAwait(false);
        }

        await using var seen = await MoveInspection.LookAsync(new MoveInspectionOptions
        {
            JournalPath = _journal!.Path,
            ConnectedSource = _source,
            ConnectedTarget = _target,
            Patience = options.StepTimeout,
        }, CancellationToken.None).ConfigureAwait(false);
        var finding = seen.Finding;
        await TryStepAsync("end the journal", async () =>
        {
            if (_phase.Current is MovePhase.Running or MovePhase.Cancelling or MovePhase.Failing || options.Mode == QemuMigrationMode.File)
            {
                await AppendAsync(new MoveRecord { Record = MoveRecordKind.Done, RunsAt = finding.RunsAt, Note = failure?.Message }).ConfigureAwait(false);
            }
        }).ConfigureAwait(false);
        var downtime = _downtime?.Read();
        var refused = RefusedBy(failure);
        var result = new QemuMigrationResult
        {
            VM = _intent!.VM,
            Outcome = OutcomeOf(failure, finding),
            RunsAt = finding.RunsAt,
            Evidence = [.. seen.Facts, .. _notes],
            Reason = failure?.Message ?? (finding.RunsAt == VMRunsAt.Target ? null : finding.Reason),
            SafeAction = finding.Action,
            Source = _source.Name,
            Target = _target?.Name ?? options.Uri ?? "",
            Mode = options.Mode,
            Downtime = downtime?.Whole,
            DowntimeParts = downtime?.Parts ?? [],
            QemuDowntime = _lastSample?.Downtime,
            PredictedDowntime = options.Predicted.Downtime,
            PredictedDuration = options.Predicted.Duration,
            Duration = Stopwatch.GetElapsedTime(_start),
            Passes = _lastSample?.Pass,
            TransferredBytes = _lastSample?.TransferredBytes,
            Actions = [.. _actions],
            SourceError = failure is null ? null : seen.SourceAnswer?.Error ?? _lastSample?.Error,
            TargetError = failure is null ? null : _targetError,
            RefusedSection = refused?.Device is { Length: > 0 } section ? section : null,
            RefusedField = refused?.Field is { Length: > 0 } field ? field : null,
            Journal = _journal.Path,
            StartedAt = _startedAt,
        };
        return new MoveEnd(result, failure is null && finding.RunsAt == VMRunsAt.Both
            ? new MoveException(MoveError.SplitBrain, finding.Reason) { Target = result } : Explain(failure, result, finding));
    }

    private QemuMigrationOutcome OutcomeOf(MoveException? failure, MoveFinding finding)
        => failure is null ? (options.Mode == QemuMigrationMode.File ? QemuMigrationOutcome.Saved : QemuMigrationOutcome.Completed)
            : finding.RunsAt == VMRunsAt.Unknown || failure.Reason == MoveError.CommitUnknown ? QemuMigrationOutcome.Unknown
            : failure.Reason == MoveError.Cancelled ? QemuMigrationOutcome.Cancelled : QemuMigrationOutcome.Failed;

    private QemuLogFinding? RefusedBy(MoveException? failure)
    {
        if (failure is null || !_migrateSent)
        {
            return null;
        }

        string said = string.Join('\n', new[] { options.TargetLog?.Invoke(), _targetError }.OfType<string>());
        return QemuLogExplainer.FindCause(QemuLogExplainer.Explain([said]));
    }

    // Where the VM is matters more than why it did not move.
    private static MoveException? Explain(MoveException? failure, QemuMigrationResult result, MoveFinding finding)
    {
        if (failure is null)
        {
            return null;
        }

        string where = finding.RunsAt switch
        {
            VMRunsAt.Source or VMRunsAt.Target when finding.Action == MigrationSafeAction.None => $"The VM runs at the {(finding.RunsAt == VMRunsAt.Source ? "source" : "target")}.",
            VMRunsAt.Source or VMRunsAt.Target => $"The VM runs at the {(finding.RunsAt == VMRunsAt.Source ? "source" : "target")}; safe is: {finding.Action}. {finding.Reason}",
            VMRunsAt.Both => "The VM runs at BOTH sides.",
            VMRunsAt.Nowhere => $"The VM runs at neither side; safe is: {finding.Action}. {finding.Reason}",
            _ => $"It is not known where the VM runs; safe is: {finding.Action}. {finding.Reason}",
        };
        string refused = result.RefusedSection is null ? "" : $" The target refused '{result.RefusedSection}'{(result.RefusedField is null ? "" : $", field {result.RefusedField}")}.";
        string said = result.TargetError is null || failure.Message.Contains(result.TargetError, StringComparison.Ordinal) ? "" : $" The target says: {result.TargetError}";
        return new MoveException(failure.Reason, $"{failure.Message}{said}{refused} {where}", failure, failure.RecommendedAction) { Target = result };
    }
}
