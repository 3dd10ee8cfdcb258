using static MigrationOps.MigrationSafeAction;

namespace MigrationOps.Engine.Moving;

/// <summary>Where a VM runs, the only safe step, and why.</summary>
internal sealed record MoveFinding(VMRunsAt RunsAt, MigrationSafeAction Action, string Reason);

/// <summary>
/// Decides from evidence who runs a VM. A pure function: the same evidence gives the same finding. Its rules: a side that does not answer
/// may run unless something excludes it; what the target may have run is never continued at the source; what was given back to the
/// source is never started at the target.
/// </summary>
internal static class MoveResolver
{
    /// <summary>The finding for some evidence.</summary>
    internal static MoveFinding Resolve(MoveEvidence e)
    {
        if (e.Source == SourceState.Running)
        {
            return ResolveRunningSource(e);
        }

        if (e.Target is TargetState.Running or TargetState.PostcopyRunning)
        {
            return ResolveRunningTarget(e);
        }

        if (MayRun(e.Source, e))
        {
            return new(VMRunsAt.Unknown, ReachSource, "The source does not answer and may run the VM.");
        }

        if (MayRun(e.Target, e))
        {
            return new(VMRunsAt.Unknown, ReachTarget, e.Committed
                ? "The commit is in the journal and the target does not answer: it may run the VM. The source must not be started."
                : "The target does not answer and may have started by itself. The source must not be started.");
        }

        return ResolveNeither(e);
    }

    /// <summary>True if a silent source may run: until it was seen to have sent everything, or after it got the VM back.</summary>
    internal static bool MayRun(SourceState source, MoveEvidence e) => source == SourceState.Silent && (!e.Completed || e.Abandoned);

    /// <summary>True if a silent target may run: it was let go, or it was never made unable to start by itself.</summary>
    internal static bool MayRun(TargetState target, MoveEvidence e) => target == TargetState.Silent && (e.Committed || !e.Armed);

    /// <summary>True if the target may have changed what the source's memory knows of the disks.</summary>
    internal static bool MayHaveRun(MoveEvidence e) => e.Target switch
    {
        // It answers that it has never come so far.
        TargetState.Waiting or TargetState.Failed => e.Ran,
        TargetState.None => e.Ran || e.Committed,
        TargetState.Loaded => e.Ran || e.Committed,
        TargetState.Dead or TargetState.Silent => e.Ran || (!e.NeverRan && (e.Committed || !e.Armed)),
        _ => true,
    };

    private static MoveFinding ResolveRunningSource(MoveEvidence e) => e.Target switch
    {
        TargetState.Running or TargetState.PostcopyRunning => new(VMRunsAt.Both, Decide,
            "Both sides run the VM. Neither is stopped without a person: each may have written what the other does not know."),
        TargetState.Silent when MayRun(e.Target, e) => new(VMRunsAt.Unknown, ReachTarget,
            e.Committed ? "The source runs, and the commit is in the journal: the target, which does not answer, may run as well."
                : "The source runs. The target does not answer and may have started by itself."),
        TargetState.Silent => new(VMRunsAt.Source, QuitTarget, "The source runs. The target does not answer; it cannot start by itself and was never let go. End it before anything else."),
        TargetState.Dead or TargetState.None => e.Migrating
            ? new(VMRunsAt.Source, Wait, "The source runs and still migrates; without a target that ends by itself.")
            : new(VMRunsAt.Source, None, "The source runs the VM."),
        TargetState.Waiting when e.Migrating => new(VMRunsAt.Source, CancelMigration, "The source runs and still migrates, and no process drives the move any more."),
        TargetState.Waiting when !e.HasJournal => new(VMRunsAt.Source, None, "The source runs the VM; the target waits for a migration."),
        TargetState.Halted => new(VMRunsAt.Source, Decide, "The source runs the VM, and the target has it too, stopped: do not continue the target."),
        _ => new(VMRunsAt.Source, QuitTarget, "The source runs the VM; the target has no use any more, and must not be continued."),
    };

    private static MoveFinding ResolveRunningTarget(MoveEvidence e)
    {
        bool postcopy = e.Target == TargetState.PostcopyRunning;
        return e.Source switch
        {
            SourceState.Silent when postcopy => new(VMRunsAt.Target, ReachSource, "The target runs the VM and still needs memory that the source holds."),
            SourceState.Silent when MayRun(e.Source, e) => new(VMRunsAt.Unknown, ReachSource, "The target runs. The source does not answer and may run as well."),
            SourceState.Silent => new(VMRunsAt.Target, None, "The target runs the VM. The source does not answer; it has sent everything and does not run by itself."),
            SourceState.Dead when postcopy => new(VMRunsAt.Target, Decide, "The target runs the VM with part of its memory, and the source that holds the rest is dead: the guest is lost. Keep the target for inspection."),
            SourceState.Dead => new(VMRunsAt.Target, None, "The target runs the VM."),
            SourceState.PostcopyPaused => new(VMRunsAt.Target, RecoverPostcopy, "The target runs the VM, and the connection over which it fetches memory is broken."),
            SourceState.Postcopy => new(VMRunsAt.Target, Wait, "The target runs the VM and fetches its memory from the source."),
            SourceState.Sent when e.KeepSource => new(VMRunsAt.Target, None, "The target runs the VM. The source is kept, stopped."),
            SourceState.Sent => new(VMRunsAt.Target, QuitSource, "The target runs the VM; the source has sent everything and has no use any more."),
            SourceState.Switching when e.Migrating => new(VMRunsAt.Target, Wait, "The target runs the VM, and the source waits for the target's last word. It runs again by itself if the connection breaks now."),
            SourceState.Switching => new(VMRunsAt.Target, QuitSource, "The target runs the VM. The source has failed at its end and may still run by itself."),
            _ => new(VMRunsAt.Target, Decide, "The target runs the VM, and the source has it too, stopped: do not continue the source."),
        };
    }

    private static MoveFinding ResolveNeither(MoveEvidence e) => e.Source switch
    {
        SourceState.Dead => ResolveDeadSource(e),
        SourceState.Silent => ResolveSilentSource(e),
        SourceState.Sent => ResolveSentSource(e),
        SourceState.Switching => ResolveSwitchingSource(e),
        SourceState.Paused => ResolvePausedSource(e),
        SourceState.Postcopy or SourceState.PostcopyPaused => ResolvePostcopySource(e),
        _ => e.Target is TargetState.Dead or TargetState.None or TargetState.Waiting or TargetState.Failed
            ? Nowhere(None, "The VM is at the source, where the guest has stopped for a reason of its own.")
            : Nowhere(Decide, "The guest has stopped at the source for a reason of its own, and the target has part or all of it."),
    };

    private static MoveFinding ResolveDeadSource(MoveEvidence e) => e.Target switch
    {
        TargetState.Loaded when e.Abandoned => Nowhere(StartFromDisk, "The source got the VM back, ran it and is dead. What the target has is older than the disks."),
        TargetState.Loaded => LetTargetGo(e, "The source is dead, and the target has everything."),
        TargetState.Halted => Nowhere(None, "The VM is at the target, where the guest has stopped for a reason of its own."),
        TargetState.Silent => Nowhere(ReachTarget, "The source is dead. The target does not answer; it may have everything."),
        _ => Nowhere(StartFromDisk, "The source is dead, and the target does not have the whole guest: the guest is lost."),
    };

    // It has sent everything, and does not run by itself.
    private static MoveFinding ResolveSilentSource(MoveEvidence e) => e.Target switch
    {
        TargetState.Loaded => LetTargetGo(e, "The source does not answer; it has sent everything and does not run by itself. The target has everything."),
        TargetState.Halted => Nowhere(None, "The VM is at the target, where the guest has stopped for a reason of its own."),
        _ => Nowhere(ReachSource, "The source has sent everything and does not answer, and the target does not have the VM."),
    };

    private static MoveFinding ResolveSentSource(MoveEvidence e) => e.Target switch
    {
        TargetState.Dead when e.Abandoned && e.WasPaused => Nowhere(None, "The VM was given back to the source, paused as it was."),
        TargetState.Loaded when e.Abandoned => GiveBack("The VM was given back to the source, which has not started yet."),
        TargetState.PostcopyHeld when e.Ran || e.Abandoned || e.WasPaused => Nowhere(Decide, "The source has sent everything, and the target has stopped with what it has."),
        TargetState.Loaded or TargetState.PostcopyHeld => LetTargetGo(e, "The source has sent everything, and the target has it."),
        TargetState.Waiting when e.Abandoned => GiveBack("The VM was given back to the source, which has not started yet."),
        TargetState.Waiting => Nowhere(Wait, "The source has sent everything, and the target still loads."),
        TargetState.Failed when !MayHaveRun(e) => GiveBack("The target has failed to load and never ran."),
        TargetState.Dead or TargetState.Silent when !MayHaveRun(e) => GiveBack(e.Target == TargetState.Dead
            ? "The target is dead and never ran."
            : "The target does not answer; it cannot start by itself and was never let go. It has to be ended before anything else."),
        TargetState.None when e.ToFile => Nowhere(None, "The VM is in the file; the source has sent everything."),
        TargetState.None => Nowhere(ReachTarget, "The source has sent everything; it is not known to which target."),
        TargetState.Halted when e.Committed => Nowhere(e.KeepSource ? None : QuitSource, "The VM is at the target, where the guest has stopped for a reason of its own."),
        TargetState.Dead or TargetState.Failed => Nowhere(StartFromDisk, "The target is dead and may have run: the disks may have what the source's memory does not know. Do not continue the source."),
        _ => Nowhere(Decide, "The source has sent everything, and the target has stopped in a state that does not tell whether it ran."),
    };

    private static MoveFinding ResolveSwitchingSource(MoveEvidence e)
    {
        if (e.Committed && !e.NeverRan)
        {
            return Nowhere(Decide, "The commit is in the journal although the source has not completed: the journal is of another move, or the source was changed by hand.");
        }

        if (e.Migrating)
        {
            return e.Target == TargetState.Waiting && !e.Armed
                ? Nowhere(Wait, "The source switches over, and the target may start by itself.")
                : Nowhere(CancelMigration, "The source has stopped the guest for the switch and waits. Cancelled, it lets the guest run again; the target cannot start by itself.");
        }

        return MayHaveRun(e) ? Nowhere(e.Target == TargetState.Dead ? StartFromDisk : Decide, "The migration has failed at its end, and the target may have run.")
            : GiveBack("The migration has failed at its end, and the target never ran.");
    }

    private static MoveFinding ResolvePausedSource(MoveEvidence e)
    {
        if (e.Migrating)
        {
            return Nowhere(CancelMigration, "The VM is paused at the source, which still migrates.");
        }

        if (!e.HasJournal || e.WasPaused)
        {
            return e.Target is TargetState.Dead or TargetState.None or TargetState.Waiting
                ? Nowhere(None, "The VM is at the source, paused.")
                : Nowhere(Decide, "The VM is at the source, paused, and the target has part or all of it: end the target before the source is continued.");
        }

        return MayHaveRun(e) ? Nowhere(Decide, "The VM is at the source, paused, and the target may have run it.")
            : GiveBack("The VM is at the source, paused by the failed migration, and the target never ran.");
    }

    private static MoveFinding ResolvePostcopySource(MoveEvidence e) => e.Target switch
    {
        TargetState.PostcopyHeld when e.Source == SourceState.Postcopy => LetTargetGo(e, "The guest is at the target, which fetches memory and is not let go yet."),
        TargetState.PostcopyHeld or TargetState.PostcopyPaused => Nowhere(RecoverPostcopy, "The guest is at the target, and the connection over which it fetches memory is broken."),
        TargetState.Dead => Nowhere(StartFromDisk, "The guest was at the target, which is dead: the guest is lost."),
        TargetState.Silent => Nowhere(ReachTarget, "The guest is at the target, which does not answer."),
        _ => Nowhere(Decide, "The source has given the guest away, and the target does not have it."),
    };

    private static MoveFinding LetTargetGo(MoveEvidence e, string why)
    {
        var next = e.Source == SourceState.Sent && !e.KeepSource ? QuitSource : None;
        return e.WasPaused && e.Committed ? Nowhere(next, "The VM is at the target, paused as it was before.")
            : e.Ran ? Nowhere(next, "The VM is at the target, where it was paused after the move.")
            : e.Abandoned ? Nowhere(Decide, "The VM was given back to the source, and the source has given it away again.")
            : Nowhere(ContinueTarget, why);
    }

    private static MoveFinding GiveBack(string why) => Nowhere(ContinueSource, why);

    private static MoveFinding Nowhere(MigrationSafeAction action, string reason) => new(VMRunsAt.Nowhere, action, reason);
}
