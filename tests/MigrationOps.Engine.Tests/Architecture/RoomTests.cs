using System.Text.RegularExpressions;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Architecture;

/// <summary>
/// A folder of the engine is a room: it owns its protocol and knows only what lies below it. The table says what else is
/// allowed and why; what is not in it fails.
/// </summary>
public partial class RoomTests
{
    // What every room may stand on. From bottom to top: Native, Wire, Storage and QEMU's bytes, the protocols.
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
    public void An_exception_that_nobody_needs_any_more_is_removed()
    {
        var used = References().Select(reference => (reference.File, reference.To)).ToHashSet();
        Assert.Equal([], Exceptions.Keys.Where(exception => !used.Contains(exception)));
    }

    [Fact]
    public void Compositions_make_no_circle()
        => Assert.Equal([], Compositions.Keys.Where(pair => Compositions.ContainsKey((pair.To, pair.From))));

    [Fact]
    public void Every_file_is_in_the_namespace_of_its_room()
    {
        var wrong = SourceTree.CodeFiles(SourceTree.Engine)
            .Select(file => (File: Path.GetRelativePath(SourceTree.Engine, file), Text: File.ReadAllText(file)))
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
            string file = Path.Combine(SourceTree.Root, "src", project, project + ".csproj");
            Assert.DoesNotContain("PowerShellStandard", File.ReadAllText(file));
        }
    }

    [Fact]
    public void Sans_io_parsers_use_no_stream_socket_or_file()
    {
        // The classes that take bytes apart say so in their first lines; they hold to it.
        var parsers = SourceTree.CodeFiles(SourceTree.Engine)
            .Select(file => (File: Path.GetRelativePath(SourceTree.Engine, file), Text: File.ReadAllText(file)))
            .Where(source => NeverDoesIo().IsMatch(source.Text)).ToArray();
        Assert.True(parsers.Length >= 4, string.Join(", ", parsers.Select(parser => parser.File)));
        Assert.Equal([], parsers.Where(parser => DoesIo().IsMatch(StripComments(parser.Text))).Select(parser => parser.File));
    }

    private static IEnumerable<(string File, string Room, string To)> References()
    {
        foreach (string path in SourceTree.CodeFiles(SourceTree.Engine))
        {
            string file = Path.GetRelativePath(SourceTree.Engine, path);
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

    [GeneratedRegex(@"[Nn]ever does I/O")]
    private static partial Regex NeverDoesIo();

    [GeneratedRegex(@"\b(Stream|FdStream|Socket|UnixConnection|File|FileStream|Transport)\b\s*[\w.(]")]
    private static partial Regex DoesIo();

    [GeneratedRegex(@"//[^\n]*")]
    private static partial Regex Comment();
}
