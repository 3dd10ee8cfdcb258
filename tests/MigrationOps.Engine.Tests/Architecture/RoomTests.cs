using System.Text.RegularExpressions;
using MigrationOps.Engine.Wire;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Architecture;

/// <summary>
/// A folder of the engine is a room: it owns its protocol and knows only what lies below it. The table says what else is
/// allowed and why; what is not in it fails.
/// </summary>
public partial class RoomTests
{
    // From bottom to top; a room may stand on every one that is listed for it, and on nothing else but the compositions below.
    private static readonly Dictionary<string, string[]> Below = new()
    {
        ["Native"] = [],
        ["Wire"] = ["Native"],
        ["Storage"] = ["Native", "Wire"],
        ["Qemu"] = ["Wire"],
    };

    private static readonly string[] BelowProtocols = ["Native", "Wire", "Storage", "Qemu"];

    // Rooms that are made of other rooms.
    private static readonly Dictionary<(string From, string To), string> Compositions = new()
    {
        [("Vfio", "Multifd")] = "VFIO device state travels in multifd packets",
        [("SaveVm", "Multifd")] = "the drivers send and receive devices' packets over multifd channels",
        [("SaveVm", "Streams")] = "the drivers write and read the same stream format",
        [("Rehearsal", "Streams")] = "a rehearsal takes a stream wherever it lies",
        [("Rehearsal", "Qmp")] = "a rehearsal starts a QEMU and asks it",
        [("Devices", "Vhost")] = "a back-end's state travels as a section",
        [("Devices", "Vfio")] = "a VFIO device's state travels as a section",
        [("Devices", "Multifd")] = "a VFIO device's packets travel over multifd channels",
    };

    // Single files that reach upwards.
    private static readonly Dictionary<(string File, string To), string> Exceptions = new()
    {
        [("Native/NativeError.cs", "Wire")] = "an errno becomes the failure that everything above it throws",
    };

    [Fact]
    public void No_room_knows_a_room_that_it_does_not_stand_on()
    {
        var violations = new List<string>();
        foreach (var (file, room, to) in References())
        {
            bool allowed = to == room
                || Below.GetValueOrDefault(room, BelowProtocols).Contains(to)
                || Compositions.ContainsKey((room, to))
                || Exceptions.ContainsKey((file, to));
            if (!allowed)
            {
                violations.Add($"{file} uses {to}");
            }
        }

        Assert.Equal([], violations.Distinct());
    }

    [Fact]
    public void An_allowance_that_no_file_uses_is_removed()
    {
        var used = References().ToArray();
        Assert.Equal([], Exceptions.Keys.Except(used.Select(reference => (reference.File, reference.To))));
        Assert.Equal([], Compositions.Keys.Except(used.Select(reference => (reference.Room, reference.To))));
    }

    [Fact]
    public void The_rooms_make_no_circle_of_any_length()
    {
        var edges = References().Where(reference => reference.Room != reference.To && !Exceptions.ContainsKey((reference.File, reference.To)))
            .ToLookup(reference => reference.Room, reference => reference.To);
        Assert.True(edges.Count >= 8, $"{edges.Count} rooms stand on others");
        Assert.Equal([], edges.Select(room => room.Key).Select(room => PathBack(room, room, [])).OfType<string>());

        string? PathBack(string from, string goal, string[] way)
            => way.Contains(from) ? null
                : edges[from].Contains(goal) ? string.Join(" -> ", [.. way, from, goal])
                : edges[from].Distinct().Select(next => PathBack(next, goal, [.. way, from])).FirstOrDefault(found => found is not null);
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
    public void The_room_of_the_parsers_uses_no_stream_socket_or_file()
    {
        var parsers = Repository.CodeFiles(Path.Combine(Repository.Engine, "Qemu"))
            .Select(file => (File: Path.GetRelativePath(Repository.Engine, file), Text: File.ReadAllText(file))).ToArray();
        Assert.True(parsers.Length >= 20, string.Join(", ", parsers.Select(parser => parser.File)));
        Assert.Equal([], parsers.Where(parser => DoesIo().IsMatch(StripComments(parser.Text))).Select(parser => parser.File));
    }

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

    [GeneratedRegex(@"//[^\n]*")]
    private static partial Regex Comment();
}
