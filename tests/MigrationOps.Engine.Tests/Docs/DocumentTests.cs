using System.Text.RegularExpressions;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Docs;

/// <summary>What the documents promise to be there is there.</summary>
public sealed partial class DocumentTests
{
    private static readonly string Root = Repository.Root;

    public static TheoryData<string> Documents => [.. Directory.GetFiles(Root, "*.md")
        .Concat(new[] { "docs", "examples", "module", "tests", "tools" }.Select(folder => Path.Combine(Root, folder)).Where(Directory.Exists)
            .SelectMany(folder => Directory.GetFiles(folder, "*.md", SearchOption.AllDirectories)))
        .Where(path => !path.Split(Path.DirectorySeparatorChar).Any(part => part is "bin" or "obj"))
        .Select(path => Path.GetRelativePath(Root, path)).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Documents))]
    public void Every_link_leads_to_a_file_and_to_a_heading_in_it(string document)
        => Assert.Equal([], BrokenLinks(Path.Combine(Root, document)));

    [Fact]
    public void There_are_documents_and_links_to_look_at()
    {
        Assert.True(Documents.Count >= 30, $"{Documents.Count} documents were found");
        int links = Documents.Sum(row => LinksOf(Path.Combine(Root, row.Data)).Count());
        Assert.True(links >= 50, $"{links} links were found");
    }

    [Fact]
    public void A_link_to_a_file_or_heading_that_is_not_there_is_found()
    {
        using var folder = new TestFolder();
        File.WriteAllText(folder.File("a.md"), "# One `two`, three\n[a](#one-two-three) [b](#four) [c](b.md) [d](b.md#x) [e](c.md) [f](https://example.org/x.md)");
        File.WriteAllText(folder.File("b.md"), "```\n# x\n```\n");
        Assert.Equal(["#four", "b.md#x", "c.md"], BrokenLinks(folder.File("a.md")));
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

    private static IEnumerable<string> BrokenLinks(string path)
    {
        foreach (var (file, anchor) in LinksOf(path))
        {
            string target = file.Length == 0 ? path : Path.Combine(Path.GetDirectoryName(path)!, file);
            if (!Path.Exists(target) || (anchor.Length > 0 && !AnchorsOf(target).Contains(anchor)))
            {
                yield return anchor.Length == 0 ? file : $"{file}#{anchor}";
            }
        }
    }

    private static IEnumerable<(string File, string Anchor)> LinksOf(string path)
        => LocalLink().Matches(CodeBlock().Replace(File.ReadAllText(path), ""))
            .Select(link => (link.Groups[1].Value, link.Groups[2].Value));

    // As hosts make them of headings: lower case, blanks to dashes, nothing but letters, digits, dashes and underscores.
    private static HashSet<string> AnchorsOf(string path)
        => [.. Heading().Matches(CodeBlock().Replace(File.ReadAllText(path), ""))
            .Select(heading => NoAnchor().Replace(heading.Groups[1].Value.Trim().ToLowerInvariant(), "").Replace(' ', '-'))];

    [GeneratedRegex(@"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")]
    private static partial Regex LocalLink();

    [GeneratedRegex(@"^#{1,6}\s+(.+)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex(@"[^\w\- ]")]
    private static partial Regex NoAnchor();
}
