using System.Text.RegularExpressions;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.Engine.Tests.Docs;

/// <summary>The engine knows no cmdlet; what it advises is said in the cmdlets' words where an operator reads it.</summary>
public sealed partial class CmdletWordsTests
{
    private static readonly (string File, string Text)[] Literals = [.. Repository.CodeFiles(Repository.Engine)
        .SelectMany(file => File.ReadLines(file).Where(line => !line.TrimStart().StartsWith("//", StringComparison.Ordinal))
            .SelectMany(line => Literal().Matches(line)).Select(literal => (Path.GetRelativePath(Repository.Engine, file), literal.Value)))];

    [Fact]
    public void Texts_of_the_engine_name_no_cmdlet_and_no_parameter()
    {
        Assert.True(Literals.Length > 1000, $"{Literals.Length} literals were found");
        Assert.Equal([], Literals.Where(literal => Cmdlet().IsMatch(literal.Text)).Select(literal => $"{literal.File}: {literal.Text}"));
    }

    [Fact]
    public void Every_phrase_is_one_that_the_engine_has_and_names_a_cmdlet_or_parameter_for_it()
    {
        Assert.Equal([], CmdletWords.All.Select(word => word.Engine).Where(phrase => !Literals.Any(l => l.Text.Contains(phrase, StringComparison.Ordinal))));
        Assert.All(CmdletWords.All, word => Assert.Matches(Cmdlet(), word.Cmdlets));
        Assert.All(CmdletWords.All, word => Assert.DoesNotMatch(Cmdlet(), word.Engine));
    }

    [Fact]
    public void Advice_of_reports_and_errors_is_in_the_cmdlets_words()
    {
        Assert.Equal("Look at the peer: it is alive but does not answer. A longer -Timeout helps only a slow peer.",
            CmdletWords.Of("Look at the peer: it is alive but does not answer. A longer timeout helps only a slow peer."));
        var report = new DeviceStateReport("t", [new("a", true, "d"), new("b", false, "d", "Check it as a device state.")]);
        var read = Assert.IsType<DeviceStateReport>(CmdletWords.In(report));
        Assert.Equal(["", "Read it with Test-DeviceState."], read.Checks.Select(check => check.RecommendedAction));
        Assert.Equal(report.Target, read.Target);
        Assert.Same(report.Target, CmdletWords.In(report.Target));
    }

    [GeneratedRegex(@"""(?:[^""\\]|\\.)*""")]
    private static partial Regex Literal();

    [GeneratedRegex(@"(^|[\s""(])-[A-Z][a-zA-Z]+|\b(Get|Set|Start|Stop|Save|Restore|Send|Receive|Register|Unregister|Test|Compare|Export|Close|Find|Connect|Disconnect|Invoke|Wait|Measure|Resume|Resolve|Switch|ConvertFrom)-[A-Z][A-Za-z]+")]
    private static partial Regex Cmdlet();
}
