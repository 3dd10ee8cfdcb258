using System.Text.RegularExpressions;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Architecture;

/// <summary>
/// A folder of the engine is a room: it owns its protocol and knows only what lies below it. The table says what lies where, and what
/// else is allowed and why; what is not in it fails, and so does an allowance that nothing uses.
/// </summary>
public partial class RoomTests
{
    // From bottom to top. A room may stand on every room of a lower row.
    private static readonly string[][] Levels =
    [
        ["Native"],
        ["Wire"],
        ["Storage", "Qemu"],
        ["Vhost", "Cpr", "Multifd", "Vfio", "SaveVm", "Streams", "Qmp"],
        ["Devices", "Moving", "Preflight", "Rehearsal", "Relay"],
    ];

    // Rooms that know less than their row allows.
    private static readonly Dictionary<string, string[]> Narrower = new()
    {
        ["Qemu"] = ["Wire"],
    };

    // Rooms that are made of other rooms of their row.
    private static readonly Dictionary<(string From, string To), string> Compositions = new()
    {
        [("Vfio", "Multifd")] = "VFIO device state travels in multifd packets",
        [("Moving", "Rehearsal")] = "a target that refuses is explained by its log's lines",
        [("SaveVm", "Multifd")] = "the drivers send and receive devices' packets over multifd channels",
    };

    // Single files that reach upwards.
    private static readonly Dictionary<(string File, string To), string> Exceptions = new()
    {
        [("Native/NativeError.cs", "Wire")] = "an errno becomes the failure that everything above it throws",
    };

    // What parsers stand on, and a writer. Parsers are found by their shape, and all of Qemu/ is checked.
    private static readonly string[] ReadersAndWriters = ["Wire/WireReader.cs", "Wire/WireWriter.cs", "Cpr/CprStateEncoder.cs"];

    [Fact]
    public void Every_room_is_in_the_table()
        => Assert.Equal([], References().Select(reference => reference.Room).Distinct().Where(room => LevelOf(room) < 0));

    [Fact]
    public void No_room_knows_a_room_that_it_does_not_stand_on()
        => Assert.Equal([], References().Where(reference => !IsAllowed(reference)).Select(reference => $"{reference.File} uses {reference.To}").Distinct());

    [Fact]
    public void An_allowance_that_nothing_uses_is_removed()
    {
        var references = References().ToList();
        Assert.Equal([], Compositions.Keys.Except(references.Select(reference => (reference.Room, reference.To))));
        Assert.Equal([], Exceptions.Keys.Except(references.Select(reference => (reference.File, reference.To))));
    }

    [Fact]
    public void Rooms_make_no_circle_of_any_length()
    {
        var uses = References().Where(reference => reference.To != reference.Room && !Exceptions.ContainsKey((reference.File, reference.To)))
            .ToLookup(reference => reference.Room, reference => reference.To);
        Assert.Equal([], uses.Select(room => room.Key).Where(room => Reaches(uses, room, room, [])));
    }

    [Theory]
    [InlineData("A B|B C|C A", "A")]
    [InlineData("A B|B A", "A")]
    [InlineData("A B|B C|A C", null)]
    public void A_circle_is_found_whatever_its_length(string uses, string? inCircle)
    {
        var pairs = uses.Split('|').Select(pair => pair.Split(' ')).ToLookup(pair => pair[0], pair => pair[1]);
        Assert.Equal(inCircle, pairs.Select(pair => pair.Key).FirstOrDefault(room => Reaches(pairs, room, room, [])));
    }

    [Fact]
    public void Every_file_is_in_the_namespace_of_its_room()
    {
        var wrong = Repository.CodeFiles(Repository.Engine)
            .Select(file => (File: Path.GetRelativePath(Repository.Engine, file), Text: File.ReadAllText(file)))
            .Where(source => source.File.Contains('/')
                && !source.Text.Contains($"namespace MigrationOps.Engine.{source.File.Split('/')[0]};"));
        Assert.Equal([], wrong.Select(source => source.File));
    }

    [Fact]
    public void The_engine_and_the_loader_know_nothing_of_powershell()
    {
        var assemblies = new[] { typeof(WireException).Assembly, typeof(MigrationOpsException).Assembly };
        Assert.Equal([], assemblies.SelectMany(assembly => assembly.GetReferencedAssemblies())
            .Where(name => name.Name!.StartsWith("System.Management.Automation") || name.Name.StartsWith("MigrationOps.PowerShell")));
        Assert.DoesNotContain(typeof(MigrationOpsException).Assembly.GetReferencedAssemblies(),
            name => name.Name!.StartsWith("MigrationOps"));
        foreach (string project in new[] { "MigrationOps.Engine", "MigrationOps.Shared" })
        {
            string file = Path.Combine(Repository.Root, "src", project, project + ".csproj");
            Assert.DoesNotContain("PowerShellStandard", File.ReadAllText(file));
        }
    }

    [Fact]
    public void Parsers_use_no_stream_socket_or_file()
    {
        var parsers = Repository.CodeFiles(Repository.Engine)
            .Select(file => (File: Path.GetRelativePath(Repository.Engine, file), Text: StripComments(File.ReadAllText(file))))
            .Where(source => source.File.StartsWith("Qemu/", StringComparison.Ordinal) || ReadersAndWriters.Contains(source.File) || IsParser().IsMatch(source.Text))
            .ToArray();
        Assert.Equal(ReadersAndWriters.Order(), parsers.Select(parser => parser.File).Intersect(ReadersAndWriters).Order());
        foreach (string parser in new[] { "Storage/StateHeader.cs", "Vhost/VhostUserMessage.cs", "Cpr/CprStateWalker.cs", "Qmp/Client/JsonObjectWalker.cs", "Streams/Reading/LibvirtImage.cs" })
        {
            Assert.Contains(parser, parsers.Select(found => found.File));
        }

        Assert.Equal([], parsers.Where(parser => DoesIo().IsMatch(parser.Text)).Select(parser => parser.File));
    }

    private static int LevelOf(string room) => Array.FindIndex(Levels, level => level.Contains(room));

    private static bool IsAllowed((string File, string Room, string To) reference)
        => reference.To == reference.Room
            || (Narrower.TryGetValue(reference.Room, out string[]? narrow) ? narrow.Contains(reference.To)
                : LevelOf(reference.To) >= 0 && LevelOf(reference.To) < LevelOf(reference.Room))
            || Compositions.ContainsKey((reference.Room, reference.To))
            || Exceptions.ContainsKey((reference.File, reference.To));

    private static bool Reaches(ILookup<string, string> uses, string from, string to, HashSet<string> seen)
        => uses[from].Any(next => next == to || (seen.Add(next) && Reaches(uses, next, to, seen)));

    private static IEnumerable<(string File, string Room, string To)> References()
    {
        foreach (string path in Repository.CodeFiles(Repository.Engine))
        {
            string file = Path.GetRelativePath(Repository.Engine, path);
            if (!file.Contains('/'))
            {
                continue;
            }

            string room = file.Split('/')[0];
            foreach (Match match in RoomName().Matches(StripComments(File.ReadAllText(path))))
            {
                yield return (file, room, match.Groups[1].Value);
            }
        }
    }

    private static string StripComments(string code) => Comment().Replace(code, "");

    [GeneratedRegex(@"\bMigrationOps\.Engine\.(\w+)")]
    private static partial Regex RoomName();

    [GeneratedRegex(@"\b(FdStream|Socket|UnixConnection|FileStream|Transport|TransferScope|SafeHandle)\b|(?<![\w.])(Stream|File|Directory)\b(?!\w)\s*[\w.(?]|\bSystem\.IO\b")]
    private static partial Regex DoesIo();

    [GeneratedRegex(@"\b(public|internal) (static )?(bool TryRead\w*\((scoped )?ref WireReader|int Feed\(ReadOnlySpan<byte>)")]
    private static partial Regex IsParser();

    [GeneratedRegex(@"//[^\n]*")]
    private static partial Regex Comment();
}
