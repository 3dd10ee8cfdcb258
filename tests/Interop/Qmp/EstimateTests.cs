
namespace MigrationOps.Interop.Tests.Qmp;

/// <summary>What is foretold of a migration is what a real QEMU then does.</summary>
public class EstimateTests
{
    private const int GiveUp = 12;

    // Away from the border: what converges does so with a fifth more writes, what does not with a fifth less.
    private static readonly EstimatePoint[] Points =
    [
        new(4, 2, 40, 0, 300),
        new(16, 200, 40, 0, 1000),
        new(16, 200, 40, 0, 150),
        new(64, 20, 40, 0, 500),
        new(64, 70, 40, 0, 500),
        new(64, 60, 40, 0, 2000),
        new(32, 10, 20, 0, 1000),
        new(32, 40, 20, 0, 500),
        new(64, 8, 64, 32, 500),
        new(64, 60, 64, 32, 500),
        new(8, 100, 64, 24, 600),
        new(100, 30, 60, 0, 1000),
    ];

    [Fact]
    public async Task The_word_on_convergence_is_what_comes_and_no_migration_is_faster_than_foretold()
    {
        TimeSpan[] windows = [TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(2)];
        var ends = EstimateLab.RunAsync(new(8, 4, 128, 0, 500) { Filled = 64 }, "qemu-system-x86_64", windows, GiveUp);
        var runs = EstimateLab.RunAsync(new(8, 100, 128, 4, 20) { Filled = 8 }, "qemu-system-x86_64-trixie", windows, 4);
        // A guest on a busy machine still writes more in a pass of two seconds than goes over the link in the 20 ms that it may stand still.
        var one = await ends;
        Assert.True(one is { Estimate.Converges: true, Ended: true }, one.ToString());
        Assert.True(one.Duration > 0.7 * one.Estimate.ShortestDuration, one.ToString());
        var other = await runs;
        Assert.True(other is { Estimate.Converges: false, Ended: false, Last.Pass: >= 3 }, other.ToString());
    }

    /// <summary>By hand, as root, on a machine that does nothing else: its figures stand in docs/preflight.md.</summary>
    [Fact(Explicit = true), Trait("Category", "ByHand")]
    public async Task Twelve_points_come_as_foretold_within_thirty_percent()
    {
        string program = Environment.GetEnvironmentVariable("MIGRATIONOPS_QEMU") ?? "qemu-system-x86_64";
        // QEMU 7.2 measures whole seconds.
        TimeSpan[] windows = [TimeSpan.FromSeconds(program.EndsWith("older", StringComparison.Ordinal) ? 2 : 0.2), TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(5)];
        using var network = new ShapedNamespace();
        var outcomes = new List<EstimateOutcome>();
        foreach (var point in Points)
        {
            outcomes.Add(await EstimateLab.RunAsync(point, program, windows, GiveUp, network));
            TestContext.Current.TestOutputHelper!.WriteLine(outcomes[^1].ToString());
        }

        // Open is no wrong word; a wrong one is.
        Assert.All(outcomes, outcome => Assert.NotEqual(!outcome.Ended, outcome.Estimate.Converges));
        Assert.True(outcomes.Count(outcome => outcome.Estimate.Converges is not null) >= outcomes.Count - 1);
        Assert.All(outcomes.Where(outcome => outcome.Ended), outcome => Assert.True(Math.Abs(outcome.DurationError) <= 0.3 && Math.Abs(outcome.DowntimeError) <= 0.3, outcome.ToString()));
    }
}
