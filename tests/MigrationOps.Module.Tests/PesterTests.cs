namespace MigrationOps.Module.Tests;

/// <summary>Every test of tests/Pester as a result of its own.</summary>
public class PesterTests
{
    // A test that is run twice with the same name still counts twice.
    public static IEnumerable<TheoryDataRow<string>> Tests() => PesterRun.Result.Tests.Select((test, index) => new TheoryDataRow<string>($"{index}")
    {
        TestDisplayName = $"{test.File}: {test.Name}",
        Label = "",
        Skip = test.Result is "Skipped" or "Inconclusive" ? Reason(test) : null,
    });

    // The suite runs when the tests run, not when they are listed: its tests are known only then.
    [Theory]
    [MemberData(nameof(Tests), DisableDiscoveryEnumeration = true)]
    public void Pester(string index)
    {
        var test = PesterRun.Result.Tests[int.Parse(index)];
        Assert.True(test.Result == "Passed", $"{test.Result} after {test.Duration:0.00} s: {test.Error}");
    }

    [Fact]
    public void The_suite_runs_to_its_end_and_has_tests_for_every_file()
    {
        var run = PesterRun.Result;
        Assert.Empty(run.Broken);
        Assert.NotEmpty(run.Tests);
        Assert.Contains($"/{run.Pester}/", PesterRun.PesterManifest, StringComparison.Ordinal);
        Assert.Equal(PesterRun.Files, run.Tests.Select(test => test.File).Distinct().Order());
    }

    private static string Reason(PesterTest test) => test.Error is { Length: > 0 } reason ? reason : $"{test.Result} by the suite";
}
