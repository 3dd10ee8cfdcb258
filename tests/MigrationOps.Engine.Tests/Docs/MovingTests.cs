using System.Globalization;
using System.Text;
using MigrationOps.Engine.Moving;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Docs;

/// <summary>
/// docs/moving.md prints the phases and the failures of a move from the code. With MIGRATIONOPS_WRITE_DOCS=1 the test writes them anew
/// before it compares.
/// </summary>
public class MovingTests
{
    private static string DocumentPath => Path.Combine(Repository.Root, "docs", "moving.md");

    [Theory]
    [InlineData("failures")]
    [InlineData("phases")]
    public void The_document_has_the_tables_of_the_code(string name)
    {
        string begin = $"<!-- {name}: made by MovingTests; MIGRATIONOPS_WRITE_DOCS=1 writes it anew. -->\n\n";
        const string End = "\n<!-- end -->";
        string text = File.ReadAllText(DocumentPath);
        int from = text.IndexOf(begin, StringComparison.Ordinal);
        Assert.True(from >= 0, $"docs/moving.md has lost its mark of the {name}.");
        from += begin.Length;
        int to = text.IndexOf(End, from, StringComparison.Ordinal);
        string expected = name == "phases" ? Phases() : Failures();
        if (Environment.GetEnvironmentVariable("MIGRATIONOPS_WRITE_DOCS") == "1")
        {
            text = text[..from] + expected + text[to..];
            File.WriteAllText(DocumentPath, text);
            to = from + expected.Length;
        }

        Assert.Equal(expected, text[from..to]);
    }

    [Fact]
    public void Every_failure_has_a_name_of_its_own_that_a_test_brings_about()
    {
        Assert.Equal(MoveFailures.Table.Count, MoveFailures.Table.Select(row => row.Name).Distinct().Count());
        string tests = string.Concat(Directory.GetFiles(Path.Combine(Repository.Root, "tests", "Interop", "Moving"), "*.cs").Select(File.ReadAllText));
        Assert.Equal([], MoveFailures.Table.Where(row => !tests.Contains($"\"{row.Name}\"", StringComparison.Ordinal)).Select(row => row.Name));
    }

    private static string Phases()
    {
        var text = new StringBuilder("| phase | what happens | the guest is at | may be followed by |\n| --- | --- | --- | --- |\n");
        foreach (var row in MovePhases.Table)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {row.Phase} | {row.Meaning} | {row.Guest} | {string.Join(", ", row.Next)} |\n");
        }

        return text.ToString();
    }

    private static string Failures()
    {
        var text = new StringBuilder("| failure | what happens | who runs the VM then | what the move does |\n| --- | --- | --- | --- |\n");
        foreach (var row in MoveFailures.Table)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {row.Name} | {row.What} | {row.Runs} | {row.Done} |\n");
        }

        return text.ToString();
    }
}
