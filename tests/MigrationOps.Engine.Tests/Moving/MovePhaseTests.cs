using MigrationOps.Engine.Moving;

namespace MigrationOps.Engine.Tests.Moving;

/// <summary>The phases of a move go by their table.</summary>
public class MovePhaseTests
{
    [Fact]
    public void Every_phase_has_a_row_and_leads_to_the_end()
    {
        Assert.Equal(Enum.GetValues<MovePhase>().Order(), MovePhases.Table.Select(row => row.Phase).Order());
        foreach (var phase in Enum.GetValues<MovePhase>())
        {
            Assert.True(Reaches(phase, MovePhase.Done, []), $"{phase} does not lead to the end");
        }
    }

    [Fact]
    public void Every_pair_of_phases_is_allowed_or_refused_by_the_names_of_both()
    {
        foreach (var row in MovePhases.Table)
        {
            foreach (var next in Enum.GetValues<MovePhase>().Where(next => next != row.Phase))
            {
                var machine = At(row.Phase);
                if (row.Next.Contains(next))
                {
                    Assert.True(machine.Enter(next));
                    Assert.False(machine.Enter(next));
                    continue;
                }

                var refused = Assert.Throws<MoveException>(() => machine.Enter(next));
                Assert.Equal(MoveError.IllegalTransition, refused.Reason);
                Assert.Contains(row.Phase.ToString(), refused.Message);
                Assert.Contains(next.ToString(), refused.Message);
            }
        }
    }

    [Fact]
    public void After_the_commit_no_phase_gives_the_source_the_vm()
        => Assert.DoesNotContain(MovePhases.Table.Where(row => row.Phase is MovePhase.Committing or MovePhase.Running or MovePhase.Postcopy).SelectMany(row => row.Next),
            next => next is MovePhase.Cancelling or MovePhase.Copying or MovePhase.Switching);

    // The shortest way to a phase.
    private static MovePhaseMachine At(MovePhase phase)
    {
        var ways = new Queue<MovePhase[]>([[]]);
        while (ways.TryDequeue(out var way))
        {
            var last = way.Length == 0 ? MovePhase.Prepared : way[^1];
            if (last == phase)
            {
                var machine = new MovePhaseMachine();
                Array.ForEach(way, step => machine.Enter(step));
                return machine;
            }

            foreach (var next in MovePhases.Table.First(row => row.Phase == last).Next.Where(next => !way.Contains(next)))
            {
                ways.Enqueue([.. way, next]);
            }
        }

        throw new InvalidOperationException($"No way leads to {phase}.");
    }

    private static bool Reaches(MovePhase from, MovePhase to, HashSet<MovePhase> seen)
        => from == to || MovePhases.Table.First(row => row.Phase == from).Next.Any(next => seen.Add(next) && Reaches(next, to, seen));
}
