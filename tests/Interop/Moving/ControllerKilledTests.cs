using MigrationOps.Engine.Moving;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests.Moving;

/// <summary>
/// The process that drives a move is gone right after a line of the journal: its connections close, nothing is cleaned up. QEMU goes its own
/// way, and then Resolve has to be right.
/// </summary>
public class ControllerKilledTests
{
    private sealed class KilledException : Exception;

    /// <summary>After which line, and who has the VM when it is resolved.</summary>
    public static TheoryData<string, string> Lines
    {
        get
        {
            var rows = new TheoryData<string, string>();
            string[] lines = ["Intent", "Armed", "Started", "Copying", "Switching", "Commit", "CommitTorn", "Running", "Done"];
            foreach (var (number, line) in lines.Index())
            {
                rows.AddRange(MovePrograms.Of(number).Select(program => new TheoryDataRow<string, string>(line, program)));
            }

            return rows;
        }
    }

    [Theory]
    [MemberData(nameof(Lines))]
    public async Task Resolve_is_right_after_the_controller_was_killed_at(string line, string program)
    {
        await using var lab = await MoveLab.StartAsync(program, locks: line.Length % 2 == 0, pages: line == "Copying" ? WritingFirmware.MostPages : 0);
        var options = lab.Options() with
        {
            // Slow enough to be killed while it copies.
            MaxBandwidth = line == "Copying" ? 2_000_000 : null,
            OnRecord = record => (record.Phase?.ToString() ?? record.Record.ToString()) == line.Replace("Torn", "", StringComparison.Ordinal) ? throw new KilledException() : Task.CompletedTask,
        };
        await Assert.ThrowsAsync<KilledException>(() => new MigrationMove(options).RunAsync(CancellationToken.None));
        await lab.DisconnectAsync();
        if (line == "CommitTorn")
        {
            // It died while it wrote the line: 'cont' was not sent, which Resolve cannot know.
            string text = File.ReadAllText(lab.JournalPath);
            File.WriteAllText(lab.JournalPath, text[..(text.LastIndexOf("\"commit\"", StringComparison.Ordinal) + 3)]);
        }

        // What is to be done is told, and done; until nothing is left to be done.
        var repaired = await MoveRepair.RunAsync(lab.Inspection(), Waiting.Patience, CancellationToken.None);
        var expected = line is "Intent" or "Armed" or "Started" ? VMRunsAt.Source : line is "Copying" or "Switching" ? repaired.RunsAt : VMRunsAt.Target;
        string all = $"{repaired.Reason}\n{string.Join('\n', repaired.Evidence.Concat(repaired.Done))}\n{File.ReadAllText(lab.JournalPath)}";
        Assert.True((repaired.RunsAt, repaired.SafeAction) == (expected, MigrationSafeAction.None), all);
        Assert.True(repaired.RunsAt is VMRunsAt.Source or VMRunsAt.Target, all);
        lab.Disk.AssertRunsOnlyAt(repaired.RunsAt);

        // The other one is gone, so that nothing can start it.
        (repaired.RunsAt == VMRunsAt.Source ? lab.TargetProcess : lab.SourceProcess).WaitForExit();
        Assert.Equal(repaired.RunsAt, MoveHistory.Read(lab.JournalPath).End?.RunsAt);
    }
}
