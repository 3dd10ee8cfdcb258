using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;
using PublicApiGenerator;

namespace MigrationOps.Engine.Tests.Architecture;

/// <summary>
/// The public API stands in a committed text file, so that every change of it is seen and meant. Run the test with
/// MIGRATIONOPS_WRITE_API=1 to write the file anew.
/// </summary>
public class PublicApiTests
{
    [Theory]
    [InlineData("MigrationOps.Engine")]
    [InlineData("MigrationOps.Shared")]
    public void The_public_api_is_the_one_that_was_agreed_on(string name)
    {
        var assembly = name == "MigrationOps.Engine" ? typeof(WireException).Assembly : typeof(MigrationOpsException).Assembly;
        string now = assembly.GeneratePublicApi(new() { IncludeAssemblyAttributes = false }).ReplaceLineEndings("\n") + "\n";
        string file = Path.Combine(Repository.Root, "tests", "MigrationOps.Engine.Tests", "Architecture", name + ".api.txt");
        if (Environment.GetEnvironmentVariable("MIGRATIONOPS_WRITE_API") == "1")
        {
            File.WriteAllText(file, now);
        }

        string agreed = File.ReadAllText(file);
        Assert.True(agreed == now, "The public API has changed. If that is meant, run this test with MIGRATIONOPS_WRITE_API=1 and commit the file."
            + string.Concat(Changes(now, agreed, "new").Concat(Changes(agreed, now, "gone"))));
    }

    private static IEnumerable<string> Changes(string from, string to, string what)
        => from.Split('\n').Except(to.Split('\n')).Select(line => $"\n{what}: {line.Trim()}");
}
