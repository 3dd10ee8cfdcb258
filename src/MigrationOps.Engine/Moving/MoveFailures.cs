namespace MigrationOps.Engine.Moving;

/// <summary>A way in which a move fails: who runs the VM then, and what is done.</summary>
/// <param name="Name">Its name; a test of that name brings it about with real QEMUs.</param>
/// <param name="What">What fails, and when.</param>
/// <param name="Runs">Who runs the VM at the end.</param>
/// <param name="Done">What the move does.</param>
internal sealed record MoveFailureRow(string Name, string What, string Runs, string Done);

/// <summary>The failures of a move as a table; docs/moving.md prints it.</summary>
internal static class MoveFailures
{
    internal static IReadOnlyList<MoveFailureRow> Table { get; } =
    [
        new("SetupRefused", "A QEMU refuses a capability, a parameter, migrate-incoming or migrate.", "source",
            "Sets back what was set; ends the target if it had begun to listen."),
        new("ConnectionRefused", "The source cannot connect to the target.", "source", "Ends the target; both sides' words are in the result."),
        new("CutWhileCopying", "The connection breaks while memory is copied.", "source", "Waits until the source has finalized the failure and runs; ends the target."),
        new("SilentWhileCopying", "Nothing arrives any more, and nothing breaks.", "source", "After the limit without progress cancels, then shuts the sockets out of band (yank); ends the target."),
        new("TargetKilledWhileCopying", "The target's process or host dies before it has everything.", "source", "The source fails and runs; waits for that."),
        new("TargetStoppedWhileCopying", "The target's process stands still.", "source", "After the limit without progress cancels, and yanks if that hangs. The target cannot start by itself; it has to be ended."),
        new("SourceKilledWhileCopying", "The source's process or host dies before the target has everything.", "neither; the guest is lost", "Ends the target. Start the VM from its disks."),
        new("CancelledWhileCopying", "An operator or a limit of time gives it up.", "source", "Cancels, waits until the source has finalized it, ends the target."),
        new("TargetRefusesTheState", "The target refuses what it is sent.", "source", "The source fails and runs. The target's words and log name the section and the field."),
        new("CutAfterTheLoad", "The connection breaks after the target has everything and before the source knows it.", "source",
            "The source fails and runs again by itself. The target cannot start by itself, and is ended."),
        new("CancelledAfterTheLoad", "Cancelled while the source waits for the target's last word.", "source", "The same."),
        new("TargetKilledAfterTheLoad", "The target dies with everything, before the source knows it.", "source", "The source fails and runs; waits for that."),
        new("TargetKilledBeforeTheCommit", "The source has sent everything and knows it; the target dies before the commit.", "source", "Writes that the target is given up, then continues the source: the target never ran."),
        new("SourceKilledAtTheCommit", "The source dies when the target has everything.", "target", "Continues the target."),
        new("AnswerOfContLost", "The commit is written, 'cont' was sent, its answer is lost.", "target", "Asks again over a new connection, and sends 'cont' again where it was not carried out."),
        new("TargetSilentAfterTheCommit", "The commit is written, and the target does not answer.", "not known", "Never starts the source. Resolve finds out when the target answers, or after it was fenced."),
        new("TargetKilledAfterTheCommit", "The commit is written, and the target dies.", "neither", "Never starts the source: the target may have changed the disks. Start the VM from its disks."),
        new("ControllerKilled", "The process that drives the move is killed, at any line of its journal.", "by the journal", "QEMU alone ends with the source, or with neither. Resolve says which, and repairs it."),
        new("PostcopyCut", "The connection breaks in postcopy.", "target", "Both sides wait. Resume recovers over a new connection; nothing is cancelled or continued at the source."),
        new("PostcopySourceKilled", "The source dies in postcopy.", "target, without part of its memory", "Says that the guest is lost, and leaves the target for inspection."),
    ];
}
