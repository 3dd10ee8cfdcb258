using System.Globalization;
using System.Reflection;
using System.Text;
using System.Xml.Linq;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.Engine.Tests.Docs;

/// <summary>
/// docs/errors.md lists every failure that the engine can report. Between its two marks it is made from the code: the
/// meaning of a reason is its documentation, the rest is what an exception with that reason carries.
/// With MIGRATIONOPS_WRITE_DOCS=1 the test writes the list anew before it compares.
/// </summary>
public sealed class ErrorCatalogueTests
{
    private const string Begin = "<!-- The tables up to the next mark are made by ErrorCatalogueTests; MIGRATIONOPS_WRITE_DOCS=1 writes them anew. -->";
    private const string End = "<!-- End of the tables. -->";

    private static readonly Lazy<Dictionary<string, string>> Summaries = new(ReadSummaries);

    public static TheoryData<Type> Exceptions =>
        [.. typeof(WireException).Assembly.GetTypes().Where(t => t.IsSubclassOf(typeof(MigrationOpsException)) && !t.IsAbstract)];

    private static string CataloguePath => Path.Combine(Repository.Root, "docs", "errors.md");

    [Fact]
    public void The_catalogue_is_what_the_code_says()
    {
        string text = File.ReadAllText(CataloguePath);
        int begin = text.IndexOf(Begin, StringComparison.Ordinal);
        int end = text.IndexOf(End, StringComparison.Ordinal);
        Assert.True(begin >= 0 && end > begin, "docs/errors.md has lost its marks.");
        string expected = Begin + "\n\n" + Tables();
        if (Environment.GetEnvironmentVariable("MIGRATIONOPS_WRITE_DOCS") == "1")
        {
            text = text[..begin] + expected + text[end..];
            File.WriteAllText(CataloguePath, text);
            end = text.IndexOf(End, StringComparison.Ordinal);
        }

        Assert.Equal(expected, text[begin..end]);
    }

    [Theory]
    [MemberData(nameof(Exceptions))]
    public void Every_reason_has_a_documented_meaning_and_an_action(Type exception)
    {
        foreach (Enum reason in Enum.GetValues(ReasonOf(exception)))
        {
            var failure = Create(exception, reason);
            Assert.NotEmpty(Summary(reason));
            Assert.True(failure.RecommendedAction.Length > 10, $"{failure.ErrorId} has no recommended action.");
            Assert.EndsWith(".", failure.RecommendedAction);
            Assert.Matches("^[A-Z][A-Za-z0-9]+$", failure.ErrorId);
            Assert.EndsWith(reason.ToString(), failure.ErrorId);
        }
    }

    [Fact]
    public void No_two_reasons_have_the_same_error_id()
    {
        var ids = Exceptions.Select(row => row.Data)
            .SelectMany(type => Enum.GetValues(ReasonOf(type)).Cast<Enum>().Select(reason => Create(type, reason).ErrorId))
            .ToList();
        Assert.True(ids.Count > 30, "The exceptions were not found.");
        Assert.Equal(ids.Distinct(StringComparer.OrdinalIgnoreCase).Order(StringComparer.Ordinal), ids.Order(StringComparer.Ordinal));
    }

    private static string Tables()
    {
        var text = new StringBuilder();
        foreach (var type in Exceptions.Select(row => row.Data).OrderBy(type => type.Name, StringComparer.Ordinal))
        {
            string area = type.Name[..^"Exception".Length];
            text.Append(CultureInfo.InvariantCulture, $"## {area}\n\n{Summaries.Value["T:" + type.FullName]}\n\n");
            text.Append("| ErrorId | Kind | Meaning | Recommended action |\n| --- | --- | --- | --- |\n");
            foreach (Enum reason in Enum.GetValues(ReasonOf(type)))
            {
                var failure = Create(type, reason);
                text.Append(CultureInfo.InvariantCulture,
                    $"| `{failure.ErrorId}` | {failure.Kind} | {Cell(Summary(reason))} | {Cell(CmdletWords.Of(failure.RecommendedAction))} |\n");
            }

            text.Append('\n');
        }

        return text.ToString();
    }

    // An area's exception takes its reason and a message first; whatever follows is optional.
    private static MigrationOpsException Create(Type type, Enum reason)
    {
        var constructor = Assert.Single(type.GetConstructors(), c => c.GetParameters() is [var first, var second, ..]
            && first.ParameterType == reason.GetType() && second.ParameterType == typeof(string));
        object?[] arguments = [reason, "message", .. constructor.GetParameters().Skip(2).Select(p => p.HasDefaultValue ? p.DefaultValue : null)];
        return (MigrationOpsException)constructor.Invoke(arguments);
    }

    private static Type ReasonOf(Type exception) => exception.GetProperty("Reason")?.PropertyType
        ?? throw new InvalidOperationException($"{exception} has no property Reason.");

    private static string Summary(Enum reason) => Summaries.Value[$"F:{reason.GetType().FullName}.{reason}"];

    private static string Cell(string text) => text.Replace("|", "\\|", StringComparison.Ordinal);

    private static Dictionary<string, string> ReadSummaries()
        => XDocument.Load(Path.Combine(AppContext.BaseDirectory, "MigrationOps.Engine.xml")).Descendants("member")
            .Where(member => member.Element("summary") is not null)
            .ToDictionary(member => member.Attribute("name")!.Value, member => PlainText(member.Element("summary")!));

    private static string PlainText(XElement summary) => string.Join(' ', string.Concat(summary.Nodes().Select(node => node switch
    {
        XElement { Name.LocalName: "see" } see => see.Attribute("cref")!.Value.Split('.')[^1],
        XElement element => element.Value,
        _ => node.ToString(),
    })).Split(default(char[]), StringSplitOptions.RemoveEmptyEntries)).Replace("&amp;", "&", StringComparison.Ordinal);
}
