using System.Text.RegularExpressions;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Docs;

/// <summary>
/// Messages, help, documents, comments and names use the field's words: an error says what was expected, what was found and where,
/// and a method is a verb and a noun. What stands in the list has been in the texts once, and sent readers looking.
/// </summary>
public sealed partial class WordTests
{
    public static TheoryData<string, string> Phrases => new()
    {
        // What it is about, and a sentence with it.
        { @"\bnobody\b", "The descriptor that nobody claims" },
        { @"\b(some|any)body\b", "until somebody takes it" },
        { @"\bits word\b", "before the target gave its word" },
        { @"\bspeaks? of\b", "The source speaks of the block 'x'" },
        // A verb is missing: "a page of 3 bytes cannot be", "a list that cannot be, or is too long".
        { @"\bcannot be(?=\s*[.,:;""<|])", "a page of 3 bytes cannot be." },
        { @"\bbelongs?\b", "3 bytes where 4 belong" },
        { @"\b(go|goes|going|went) on\b", "the device goes on" },
        { @"\bno more\b(?! (\w+ )?than\b)", "this target needs us no more" },
        { @"\brid of\b", "the target must be rid of us" },
        { @"\bstands? (here|there)\b", "0x12 stands there instead of 0x7e" },
    };

    private static readonly string[] s_folders = ["src", "docs", "module", "examples", "tools"];

    [Theory]
    [MemberData(nameof(Phrases))]
    public void Texts_do_not_say(string phrase, string sample)
    {
        var words = new Regex(phrase, RegexOptions.IgnoreCase);
        Assert.Matches(words, sample);
        Assert.Equal([], Texts().SelectMany(file => Find(words, file)));
    }

    [Fact]
    public void Methods_are_verbs_with_nouns()
    {
        Assert.Matches(BadName(), "    private void Judge(string type)");
        Assert.Matches(BadName(), "        session.Own<T>(item);");
        Assert.Matches(BadName(), "    internal void TellFailure()");
        Assert.DoesNotMatch(BadName(), "    internal MigrationOwner Owner { get; } = Find(knowing: true);");
        Assert.Equal([], Texts().Where(file => file.EndsWith(".cs", StringComparison.Ordinal)).SelectMany(file => Find(BadName(), file)));
    }

    [Fact]
    public void There_are_texts_to_look_at()
    {
        string[] texts = [.. Texts()];
        Assert.True(texts.Count(file => file.EndsWith(".cs", StringComparison.Ordinal)) >= 400, $"{texts.Length} texts were found");
        Assert.True(texts.Count(file => file.EndsWith(".md", StringComparison.Ordinal)) >= 50, $"{texts.Length} texts were found");
        Assert.Contains(texts, file => file.EndsWith("errors.md", StringComparison.Ordinal));
        Assert.Contains(texts, file => file.EndsWith("README.md", StringComparison.Ordinal));
    }

    [GeneratedRegex(@"\b(GoOn|Judge\w*|Obey|Own|Late|Blame|Adopt|Know|Lose|Tell\w*|Misbehave|Detour|Hangs|Hanging)(<\w+>)?\(")]
    private static partial Regex BadName();

    private static IEnumerable<string> Texts() => Directory.GetFiles(Repository.Root, "*.md")
        .Concat(s_folders.SelectMany(folder => Directory.EnumerateFiles(Path.Combine(Repository.Root, folder), "*", SearchOption.AllDirectories)))
        .Where(file => Path.GetExtension(file) is ".cs" or ".md" or ".ps1" or ".psm1" or ".psd1")
        .Where(file => !Path.GetRelativePath(Repository.Root, file).Split(Path.DirectorySeparatorChar).Any(part => part is "bin" or "obj"));

    private static IEnumerable<string> Find(Regex words, string file) => File.ReadLines(file)
        .Select((line, index) => (Line: line, Number: index + 1))
        .Where(line => words.IsMatch(line.Line))
        .Select(line => $"{Path.GetRelativePath(Repository.Root, file)}:{line.Number}: {line.Line.Trim()}");
}
