using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Moving;

/// <summary>Does the safe steps that the evidence asks for, one after the other, and looks anew after each.</summary>
internal static class MoveRepair
{
    private const int MostSteps = 6;

    /// <summary>Repairs until nothing is left to be done.</summary>
    /// <param name="options">What is to be looked at.</param>
    /// <param name="patience">How long a step may take.</param>
    /// <param name="cancellationToken">Heeded between two steps.</param>
    /// <returns>The verdict at the end, with the steps.</returns>
    /// <exception cref="MoveException"><see cref="MoveError.NotRepairable"/> with the verdict's reason; <see cref="MoveError.JournalInUse"/>.</exception>
    internal static async Task<QemuMigrationVerdict> RunAsync(MoveInspectionOptions options, TimeSpan patience, CancellationToken cancellationToken)
    {
        using var journal = options.JournalPath is { } path ? MoveJournal.Open(path) : null;
        var done = new List<string>();
        MigrationSafeAction? last = null;
        for (int step = 0; ; step++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            await using var seen = await MoveInspection.LookAsync(options, cancellationToken).ConfigureAwait(false);
            var action = seen.Finding.Action;
            if (action == MigrationSafeAction.None)
            {
                if (journal is not null && (seen.History!.End is null || done.Count > 0))
                {
                    journal.Append(new MoveRecord { Record = MoveRecordKind.Done, RunsAt = seen.Finding.RunsAt, Note = "resolved" });
                }

                return seen.ToVerdict(done);
            }

            if (action == last || step >= MostSteps || !await TryStepAsync(seen, journal, patience, done).ConfigureAwait(false))
            {
                throw new MoveException(MoveError.NotRepairable, $"{seen.Finding.Reason} Safe is: {action}. Evidence: {string.Join("; ", seen.Facts)}.") { Target = options.JournalPath };
            }

            last = action;
        }
    }

    private static async Task<bool> TryStepAsync(MoveInspection seen, MoveJournal? journal, TimeSpan patience, List<string> done)
    {
        switch (seen.Finding.Action)
        {
            case MigrationSafeAction.Wait when seen.Source is not null:
                await SideControl.WaitAsync(seen.Source, answer => !answer.IsMigrating && !answer.IsPostcopy, patience).ConfigureAwait(false);
                done.Add("waited for the migration's end");
                return true;
            case MigrationSafeAction.CancelMigration:
                if (seen is { Evidence: { Target: TargetState.Waiting, Armed: false }, Target: not null })
                {
                    await seen.Target.ExecuteAsync("stop").ConfigureAwait(false);
                }

                var answer = await SideControl.CancelAsync(seen.Source!, patience).ConfigureAwait(false);
                done.Add($"cancelled the migration; the source is {answer}");
                return true;
            case MigrationSafeAction.ContinueSource:
                return await GiveBackAsync(seen, journal, patience, done).ConfigureAwait(false);
            case MigrationSafeAction.ContinueTarget:
                return await LetGoAsync(seen, journal, patience, done).ConfigureAwait(false);
            case MigrationSafeAction.QuitSource:
                return await QuitAsync(seen.Source, "source", done).ConfigureAwait(false);
            case MigrationSafeAction.QuitTarget:
                return await QuitAsync(seen.Target, "target", done).ConfigureAwait(false);
            default:
                return false;
        }
    }

    private static async Task<bool> QuitAsync(QmpMonitor? monitor, string side, List<string> done)
    {
        if (monitor is null || !await SideControl.QuitAsync(monitor).ConfigureAwait(false))
        {
            return false;
        }

        done.Add($"ended the {side}");
        return true;
    }

    // The target first: it has to be ended before the source may write to the disks.
    private static async Task<bool> GiveBackAsync(MoveInspection seen, MoveJournal? journal, TimeSpan patience, List<string> done)
    {
        if (seen.Target is not null)
        {
            if (!await QuitAsync(seen.Target, "target", done).ConfigureAwait(false))
            {
                return false;
            }
        }

        journal?.Append(new MoveRecord { Record = MoveRecordKind.Abandoned });
        if (seen.Evidence.WasPaused)
        {
            return true;
        }

        var (outcome, words) = await SideControl.ContinueAsync(seen.Source!, patience).ConfigureAwait(false);
        done.Add(outcome == ContinueOutcome.Runs ? "continued the source" : $"the source did not continue: {words}");
        return outcome == ContinueOutcome.Runs;
    }

    private static async Task<bool> LetGoAsync(MoveInspection seen, MoveJournal? journal, TimeSpan patience, List<string> done)
    {
        journal?.Append(new MoveRecord { Record = MoveRecordKind.Commit });
        if (seen.Evidence.WasPaused)
        {
            journal?.Append(new MoveRecord { Record = MoveRecordKind.Running, Note = "paused, as it was" });
            done.Add("committed; the VM stays paused");
            return true;
        }

        var (outcome, words) = await SideControl.ContinueAsync(seen.Target!, patience).ConfigureAwait(false);
        if (outcome == ContinueOutcome.Runs)
        {
            journal?.Append(new MoveRecord { Record = MoveRecordKind.Running });
            done.Add("continued the target");
            return true;
        }

        if (outcome == ContinueOutcome.Refused)
        {
            journal?.Append(new MoveRecord { Record = MoveRecordKind.Refused, Note = words });
        }

        done.Add($"the target did not continue: {words}");
        return false;
    }
}
