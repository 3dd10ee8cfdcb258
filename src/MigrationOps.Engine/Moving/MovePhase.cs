namespace MigrationOps.Engine.Moving;

/// <summary>Where a move is.</summary>
internal enum MovePhase
{
    Prepared,
    Copying,
    Stalled,
    Held,
    Switching,
    Loading,
    Postcopy,
    PostcopyPaused,
    Recovering,
    Committing,
    Running,
    Cancelling,
    Failing,
    Done,
}

/// <summary>A phase with what it means and what may follow it.</summary>
/// <param name="Phase">Which one.</param>
/// <param name="Meaning">What happens in it.</param>
/// <param name="Guest">Where the guest is.</param>
/// <param name="Next">The phases that may follow.</param>
internal sealed record MovePhaseRow(MovePhase Phase, string Meaning, string Guest, MovePhase[] Next);

/// <summary>The phases of a move, as a table; docs/moving.md prints it.</summary>
internal static class MovePhases
{
    internal static IReadOnlyList<MovePhaseRow> Table { get; } =
    [
        new(MovePhase.Prepared, "Both QEMUs were asked, the intent is in the journal; nothing is sent.", "source",
            [MovePhase.Copying, MovePhase.Cancelling, MovePhase.Failing]),
        new(MovePhase.Copying, "Memory is copied while the guest runs.", "source",
            [MovePhase.Stalled, MovePhase.Held, MovePhase.Switching, MovePhase.Loading, MovePhase.Postcopy, MovePhase.Committing, MovePhase.Cancelling, MovePhase.Failing]),
        new(MovePhase.Stalled, "Memory changes faster than it is sent; an action is taken.", "source",
            [MovePhase.Copying, MovePhase.Held, MovePhase.Switching, MovePhase.Loading, MovePhase.Postcopy, MovePhase.Committing, MovePhase.Cancelling, MovePhase.Failing]),
        new(MovePhase.Held, "The guest stands still at the source and waits for a word.", "source, stopped",
            [MovePhase.Switching, MovePhase.Loading, MovePhase.Committing, MovePhase.Cancelling, MovePhase.Failing]),
        new(MovePhase.Switching, "The guest stands still; its last state is sent.", "source, stopped",
            [MovePhase.Loading, MovePhase.Postcopy, MovePhase.Committing, MovePhase.Cancelling, MovePhase.Failing]),
        new(MovePhase.Loading, "The source has sent everything; the target is not complete yet.", "neither",
            [MovePhase.Committing, MovePhase.Cancelling, MovePhase.Failing]),
        new(MovePhase.Postcopy, "The guest is at the target and fetches its memory.", "target",
            [MovePhase.Committing, MovePhase.PostcopyPaused, MovePhase.Running, MovePhase.Failing]),
        new(MovePhase.PostcopyPaused, "The connection of a postcopy migration is broken.", "target, may wait for memory",
            [MovePhase.Recovering, MovePhase.Failing]),
        new(MovePhase.Recovering, "A postcopy migration is taken up over a new connection.", "target",
            [MovePhase.Postcopy, MovePhase.PostcopyPaused, MovePhase.Running, MovePhase.Failing]),
        new(MovePhase.Committing, "The commit is in the journal; the target is let go.", "target",
            [MovePhase.Running, MovePhase.Postcopy, MovePhase.Failing]),
        new(MovePhase.Running, "The guest is at the target for good.", "target",
            [MovePhase.Done]),
        new(MovePhase.Cancelling, "The migration is given up; the source runs on.", "source",
            [MovePhase.Done, MovePhase.Committing, MovePhase.Failing]),
        new(MovePhase.Failing, "The migration has failed; the side that has the guest is found and kept.", "by the evidence",
            [MovePhase.Done]),
        new(MovePhase.Done, "The last line of the journal is written.", "by the result", []),
    ];

    internal static bool MayFollow(MovePhase from, MovePhase to) => Table.First(row => row.Phase == from).Next.Contains(to);
}

/// <summary>The phase of one move; it goes by the table and in no other way.</summary>
internal sealed class MovePhaseMachine
{
    internal MovePhase Current { get; private set; } = MovePhase.Prepared;

    /// <summary>Enters a phase; the present one again is no step.</summary>
    /// <returns>True if the phase has changed.</returns>
    /// <exception cref="MoveException"><see cref="MoveError.IllegalTransition"/> names both phases.</exception>
    internal bool Enter(MovePhase next)
    {
        if (next == Current)
        {
            return false;
        }

        if (!MovePhases.MayFollow(Current, next))
        {
            throw new MoveException(MoveError.IllegalTransition, $"The phase {next} may not follow {Current}.");
        }

        Current = next;
        return true;
    }
}
