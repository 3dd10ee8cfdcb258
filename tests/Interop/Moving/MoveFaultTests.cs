using MigrationOps.Engine.Moving;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests.Moving;

/// <summary>
/// Every row of the table of failures with real QEMUs that share a disk: the disk shows that one guest wrote at a time, and the verdict is
/// what then is the case.
/// </summary>
public class MoveFaultTests
{
    // Rows that other tests of this folder bring about.
    private static readonly string[] s_elsewhere = ["ControllerKilled", "PostcopyCut", "PostcopySourceKilled"];

    public static TheoryData<string, string> Rows
    {
        get
        {
            var rows = new TheoryData<string, string>();
            foreach (var (number, row) in MoveFailures.Table.Where(row => !s_elsewhere.Contains(row.Name)).Index())
            {
                rows.AddRange(MovePrograms.Of(number).Select(program => new TheoryDataRow<string, string>(row.Name, program)));
            }

            return rows;
        }
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public async Task Exactly_one_runs_after(string failure, string program)
    {
        // Locks of the disk help by chance; where they do not reach, the move alone has to hold.
        bool locks = (failure.Length + program.Length) % 2 == 0;
        await MoveFaults.RunAsync(failure, program, locks);
    }
}
