using MigrationOps.Engine.Tests.Support;
using MigrationOps.Truth;

namespace MigrationOps.Interop.Tests.Truth;

/// <summary>A sample of the truth matrix: the verdicts of Compare-MigrationStream beside what the real QEMU does with the stream.</summary>
public sealed class TruthMatrixTests
{
    private const double LeastRecall = 0.9;

    [Fact]
    public void Compare_says_what_the_real_qemus_do_with_150_pairs()
    {
        var pairs = Matrix.Short();
        foreach (string program in pairs.SelectMany(p => new[] { p.Source.Program, p.Target.Program }).Distinct())
        {
            Peers.Require(program);
        }

        using var folder = new TestFolder();
        var report = new TruthReport(new TruthRun(folder.File("truth")).Run(pairs));
        var text = new StringWriter();
        report.Write(text, all: false);
        TestContext.Current.TestOutputHelper?.WriteLine(text.ToString());
        Assert.True(report.WrongErrors.Count == 0, text.ToString());
        Assert.True(report.Count >= pairs.Count - 5, $"Only {report.Count} pairs ran.\n{text}");
        Assert.True(report.Recall >= LeastRecall, text.ToString());
    }
}
