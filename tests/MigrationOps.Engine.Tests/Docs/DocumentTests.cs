using System.Text.RegularExpressions;

namespace MigrationOps.Engine.Tests.Docs;

/// <summary>What the documents promise to be there is there.</summary>
public sealed partial class DocumentTests
{
    private static readonly string Root = Repository.Root;

    public static TheoryData<string> Documents => [.. Directory.GetFiles(Root, "*.md")
        .Concat(Directory.GetFiles(Path.Combine(Root, "docs"), "*.md", SearchOption.AllDirectories))
        .Select(path => Path.GetRelativePath(Root, path)).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Documents))]
    public void Every_link_to_a_file_leads_to_one(string document)
    {
        string path = Path.Combine(Root, document);
        foreach (Match link in LocalLink().Matches(CodeBlock().Replace(File.ReadAllText(path), "")))
        {
            string target = Path.Combine(Path.GetDirectoryName(path)!, link.Groups[1].Value);
            Assert.True(Path.Exists(target), $"{document} links to '{link.Groups[1].Value}', which does not exist.");
        }
    }

    [Fact]
    public void The_readme_links_every_page_of_a_cmdlet_in_its_table()
    {
        string readme = File.ReadAllText(Path.Combine(Root, "README.md"));
        string[] pages = [.. Directory.GetFiles(Path.Combine(Root, "docs", "cmdlets"), "*-*.md").Select(path => Path.GetFileName(path))
            .Where(name => char.IsUpper(name[0]))];
        Assert.NotEmpty(pages);
        Assert.All(pages, page => Assert.Contains($"](docs/cmdlets/{page}) | ", readme));
    }

    // A block ends at as many marks as it began with, so that it can show a block.
    [GeneratedRegex(@"^(`{3,})(?!`).*?^\1\s*$", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex CodeBlock();

    [GeneratedRegex(@"\]\((?!https?:)([^)#]+)\)")]
    private static partial Regex LocalLink();
}
