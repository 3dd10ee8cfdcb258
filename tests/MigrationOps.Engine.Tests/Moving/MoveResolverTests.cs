using MigrationOps.Engine.Moving;

namespace MigrationOps.Engine.Tests.Moving;

/// <summary>
/// Verdicts over all combinations of evidence. What a side that does not answer may really be is tried out too: in none of these
/// worlds may the step that is called safe let two VMs run, or one that is behind its disks.
/// </summary>
public class MoveResolverTests
{
    // What a world is: what each side really is, and what is true whether or not it is known.
    private sealed record World(SourceState Source, TargetState Target, bool TargetRan, bool SourceSent);

    [Fact]
    public void There_are_combinations_to_look_at() => Assert.InRange(Combinations().Count(), 5_000, 200_000);

    [Fact]
    public void Where_it_runs_follows_from_what_the_sides_say()
    {
        foreach (var e in Combinations())
        {
            var found = MoveResolver.Resolve(e);
            bool source = e.Source == SourceState.Running;
            bool target = e.Target is TargetState.Running or TargetState.PostcopyRunning;
            bool open = e.Source == SourceState.Silent && MoveResolver.MayRun(e.Source, e) && e.Target != TargetState.PostcopyRunning
                || e.Target == TargetState.Silent && MoveResolver.MayRun(e.Target, e);
            var expected = source && target ? VMRunsAt.Both : open ? VMRunsAt.Unknown : source ? VMRunsAt.Source : target ? VMRunsAt.Target : VMRunsAt.Nowhere;
            Assert.True(expected == found.RunsAt, $"{e}: {found}, expected {expected}");
            Assert.NotEmpty(found.Reason);
        }
    }

    [Fact]
    public void The_source_is_never_continued_after_the_commit_unless_the_target_is_proven_not_to_have_run()
    {
        foreach (var e in Combinations().Where(e => e.Committed && MoveResolver.Resolve(e).Action == MigrationSafeAction.ContinueSource))
        {
            Assert.True(e.Target is TargetState.Waiting or TargetState.Failed || (e is { Target: TargetState.Dead, NeverRan: true }) || (e.Abandoned && e.Target is not TargetState.Silent), e.ToString());
        }
    }

    [Fact]
    public void What_was_given_back_is_never_started_at_the_target()
        => Assert.DoesNotContain(Combinations().Where(e => e.Abandoned), e => MoveResolver.Resolve(e).Action == MigrationSafeAction.ContinueTarget);

    [Fact]
    public void What_was_seen_to_run_at_the_target_is_never_continued_at_the_source()
        => Assert.DoesNotContain(Combinations().Where(e => e.Ran && !e.Abandoned), e => MoveResolver.Resolve(e).Action == MigrationSafeAction.ContinueSource);

    [Fact]
    public void No_safe_step_lets_two_run_or_one_that_is_behind_its_disks_in_any_world()
    {
        int worlds = 0;
        foreach (var e in Combinations())
        {
            var action = MoveResolver.Resolve(e).Action;
            foreach (var world in Worlds(e))
            {
                worlds++;
                string? harm = HarmOf(action, e, world);
                Assert.True(harm is null, $"{action} in {world}: {harm}; evidence {e}");
            }
        }

        Assert.True(worlds > 5_000);
    }

    [Theory]
    [InlineData(SourceState.Running, TargetState.Waiting, "armed,migrating", VMRunsAt.Source, MigrationSafeAction.CancelMigration)]
    [InlineData(SourceState.Running, TargetState.Dead, "armed", VMRunsAt.Source, MigrationSafeAction.None)]
    [InlineData(SourceState.Running, TargetState.Loaded, "armed", VMRunsAt.Source, MigrationSafeAction.QuitTarget)]
    [InlineData(SourceState.Running, TargetState.Silent, "armed", VMRunsAt.Source, MigrationSafeAction.QuitTarget)]
    [InlineData(SourceState.Running, TargetState.Silent, "armed,completed,committed", VMRunsAt.Unknown, MigrationSafeAction.ReachTarget)]
    [InlineData(SourceState.Running, TargetState.Running, "", VMRunsAt.Both, MigrationSafeAction.Decide)]
    [InlineData(SourceState.Sent, TargetState.Loaded, "armed", VMRunsAt.Nowhere, MigrationSafeAction.ContinueTarget)]
    [InlineData(SourceState.Sent, TargetState.Loaded, "armed,completed,committed", VMRunsAt.Nowhere, MigrationSafeAction.ContinueTarget)]
    [InlineData(SourceState.Sent, TargetState.Running, "armed,completed,committed", VMRunsAt.Target, MigrationSafeAction.QuitSource)]
    [InlineData(SourceState.Sent, TargetState.Silent, "armed", VMRunsAt.Nowhere, MigrationSafeAction.ContinueSource)]
    [InlineData(SourceState.Sent, TargetState.Silent, "armed,completed,committed", VMRunsAt.Unknown, MigrationSafeAction.ReachTarget)]
    [InlineData(SourceState.Sent, TargetState.Dead, "armed", VMRunsAt.Nowhere, MigrationSafeAction.ContinueSource)]
    [InlineData(SourceState.Sent, TargetState.Dead, "armed,completed,committed", VMRunsAt.Nowhere, MigrationSafeAction.StartFromDisk)]
    [InlineData(SourceState.Sent, TargetState.Dead, "armed,completed,committed,neverran", VMRunsAt.Nowhere, MigrationSafeAction.ContinueSource)]
    [InlineData(SourceState.Sent, TargetState.Dead, "", VMRunsAt.Nowhere, MigrationSafeAction.StartFromDisk)]
    [InlineData(SourceState.Dead, TargetState.Waiting, "armed", VMRunsAt.Nowhere, MigrationSafeAction.StartFromDisk)]
    [InlineData(SourceState.Dead, TargetState.Loaded, "armed", VMRunsAt.Nowhere, MigrationSafeAction.ContinueTarget)]
    [InlineData(SourceState.Dead, TargetState.Loaded, "armed,abandoned", VMRunsAt.Nowhere, MigrationSafeAction.StartFromDisk)]
    [InlineData(SourceState.Silent, TargetState.Loaded, "armed", VMRunsAt.Unknown, MigrationSafeAction.ReachSource)]
    [InlineData(SourceState.Silent, TargetState.Loaded, "armed,completed", VMRunsAt.Nowhere, MigrationSafeAction.ContinueTarget)]
    [InlineData(SourceState.Switching, TargetState.Loaded, "armed,migrating", VMRunsAt.Nowhere, MigrationSafeAction.CancelMigration)]
    [InlineData(SourceState.Switching, TargetState.Running, "migrating", VMRunsAt.Target, MigrationSafeAction.Wait)]
    [InlineData(SourceState.Switching, TargetState.Loaded, "armed", VMRunsAt.Nowhere, MigrationSafeAction.ContinueSource)]
    [InlineData(SourceState.PostcopyPaused, TargetState.PostcopyRunning, "armed,completed,committed", VMRunsAt.Target, MigrationSafeAction.RecoverPostcopy)]
    [InlineData(SourceState.Postcopy, TargetState.PostcopyHeld, "armed", VMRunsAt.Nowhere, MigrationSafeAction.ContinueTarget)]
    [InlineData(SourceState.Postcopy, TargetState.Dead, "armed,completed,committed", VMRunsAt.Nowhere, MigrationSafeAction.StartFromDisk)]
    [InlineData(SourceState.Sent, TargetState.Loaded, "armed,completed,committed,paused", VMRunsAt.Nowhere, MigrationSafeAction.QuitSource)]
    internal void Known_cases(SourceState source, TargetState target, string facts, VMRunsAt runsAt, MigrationSafeAction action)
    {
        string[] said = facts.Split(',');
        var found = MoveResolver.Resolve(new MoveEvidence
        {
            Source = source,
            Target = target,
            HasJournal = facts.Length > 0,
            Migrating = said.Contains("migrating"),
            Armed = said.Contains("armed"),
            Completed = said.Contains("completed"),
            Committed = said.Contains("committed"),
            Abandoned = said.Contains("abandoned"),
            NeverRan = said.Contains("neverran"),
            WasPaused = said.Contains("paused"),
        });
        Assert.Equal((runsAt, action), (found.RunsAt, found.Action));
    }

    // Every state of both sides with every journal that a move can leave, and every journal that it cannot.
    private static IEnumerable<MoveEvidence> Combinations()
    {
        bool[] both = [false, true];
        foreach (var source in Enum.GetValues<SourceState>())
        {
            foreach (var target in Enum.GetValues<TargetState>())
            {
                foreach (bool migrating in source is SourceState.Running or SourceState.Paused or SourceState.Switching ? both : [false])
                {
                    foreach (bool paused in both)
                    {
                        foreach (bool neverRan in target is TargetState.Dead or TargetState.Silent ? both : [false])
                        {
                            yield return new MoveEvidence { Source = source, Target = target, Migrating = migrating, NeverRan = neverRan };
                            for (int journal = 0; journal < 32; journal++)
                            {
                                bool ran = (journal & 1) != 0;
                                bool committed = (journal & 2) != 0 || ran;
                                yield return new MoveEvidence
                                {
                                    Source = source,
                                    Target = target,
                                    Migrating = migrating,
                                    HasJournal = true,
                                    Ran = ran,
                                    Committed = committed,
                                    Completed = (journal & 4) != 0 || committed,
                                    Armed = (journal & 8) != 0,
                                    Abandoned = (journal & 16) != 0 && !ran,
                                    WasPaused = paused,
                                    NeverRan = neverRan && !ran,
                                };
                            }
                        }
                    }
                }
            }
        }
    }

    // The worlds that the evidence leaves open. A side that answers is what it says.
    private static IEnumerable<World> Worlds(MoveEvidence e)
    {
        SourceState[] sources = e.Source != SourceState.Silent ? [e.Source]
            : e.Completed && !e.Abandoned ? [SourceState.Sent, SourceState.Dead]
            : [SourceState.Running, SourceState.Paused, SourceState.Switching, SourceState.Sent, SourceState.Dead];
        bool mayHaveStarted = (e.Committed || !e.Armed) && !e.NeverRan;
        TargetState[] targets = e.Target != TargetState.Silent ? [e.Target]
            : mayHaveStarted ? [TargetState.Waiting, TargetState.Loaded, TargetState.Failed, TargetState.Running, TargetState.Halted, TargetState.Dead]
            : [TargetState.Waiting, TargetState.Loaded, TargetState.Failed, TargetState.Dead];
        foreach (var source in sources)
        {
            foreach (var target in targets)
            {
                bool[] ran = target switch
                {
                    TargetState.Running or TargetState.PostcopyRunning or TargetState.Halted => [true],
                    TargetState.Waiting or TargetState.Failed or TargetState.None => [false],
                    TargetState.Dead or TargetState.Loaded => e.Ran ? [true] : mayHaveStarted && e.Committed ? [false, true] : target == TargetState.Dead && mayHaveStarted ? [false, true] : [false],
                    _ => [false],
                };
                foreach (bool hasRun in ran)
                {
                    yield return new World(source, target, hasRun, e.Completed || source == SourceState.Sent);
                }
            }
        }
    }

    // Null if the step does no harm in that world.
    private static string? HarmOf(MigrationSafeAction action, MoveEvidence e, World world)
    {
        bool targetRuns = world.Target is TargetState.Running or TargetState.PostcopyRunning;
        bool targetMayStart = world.Target == TargetState.Waiting && !e.Armed && e.Migrating;
        switch (action)
        {
            case MigrationSafeAction.ContinueSource:
                // A target that answers is ended first.
                return e.Target == TargetState.Silent && (targetRuns || (world.Target == TargetState.Waiting && !e.Armed)) ? "the target runs or may start"
                    : world.TargetRan && !(e.Abandoned && e.Target != TargetState.Silent) ? "the target has changed the disks"
                    : targetRuns ? "the target runs" : null;
            case MigrationSafeAction.ContinueTarget:
                return world.Source is SourceState.Running ? "the source runs"
                    : world.Source is SourceState.Switching ? "the source may run again by itself"
                    : e.Abandoned ? "the source has changed the disks"
                    : e.Target is not (TargetState.Loaded or TargetState.PostcopyHeld) ? "the target does not have everything" : null;
            case MigrationSafeAction.QuitSource:
                return targetRuns || world.TargetRan || (e.Committed && world.Target is TargetState.Loaded or TargetState.Halted) ? null : "the source alone has the VM";
            case MigrationSafeAction.QuitTarget:
                return world.Source == SourceState.Running ? null : "the source does not run";
            case MigrationSafeAction.CancelMigration:
                return targetRuns ? "the target runs"
                    : e.Target == TargetState.Silent && targetMayStart ? "the target may start" : null;
            default:
                return null;
        }
    }
}
