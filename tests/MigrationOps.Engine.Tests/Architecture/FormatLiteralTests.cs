using System.Text.RegularExpressions;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Architecture;

/// <summary>
/// QEMU's bytes have one owner, the room Qemu: no other source has a number of its formats, or takes their words apart itself. Another
/// format that happens to be big-endian is listed with its name.
/// </summary>
public partial class FormatLiteralTests
{
    // Formats that are not those of QEMU's migration stream.
    private static readonly Dictionary<string, string> OtherFormats = new()
    {
        ["Multifd/ChannelReader.cs"] = "hands its bytes to the parsers",
        ["Relay/RelayConnection.cs"] = "hands a channel's first message to the parser",
        ["Relay/RelayDevices.cs"] = "hands the head of a packet to the parser",
        ["Vfio/SectionReader.cs"] = "hands its bytes to the parser",
        ["Vfio/Kernel/PciIdentity.cs"] = "the PCI configuration space inside a config state",
        ["SaveVm/ReturnPathReader.cs"] = "hands its bytes to the parsers",
        ["SaveVm/Target/IncomingStream.cs"] = "hands its bytes to the parsers",
        ["SaveVm/Target/IncomingChannels.cs"] = "hands the first word to the parser",
        ["Streams/Decoding/FieldDecoder.cs"] = "the values of a device's fields",
        ["Streams/Decoding/VirtioDecoder.cs"] = "a virtio device's fields",
        ["Streams/Decoding/BackendChunks.cs"] = "hands the head of a chunk to the parser",
        ["Devices/VhostBackendDevice.cs"] = "hands the head of a chunk to the parser",
        ["Streams/Decoding/VirtioState.cs"] = "a virtio device's queues",
        ["Streams/Reading/StreamSource.cs"] = "hands libvirt's header to its parser",
        ["Streams/Reading/LibvirtImage.cs"] = "libvirt's header",
        ["Streams/Reading/StreamArchive.cs"] = "the magic of each file of a folder",
        ["Streams/Reading/ForeignFile.cs"] = "the heads of files that are not migration streams",
        ["Streams/Reading/Qcow2StateStream.cs"] = "hands its bytes to the parsers of qcow2",
        ["Streams/Reading/Qcow2Image.cs"] = "hands its bytes to the parsers of qcow2",
        ["Streams/Reading/ChannelRam.cs"] = "hands its bytes to the parser",
        ["Streams/Reading/VfioChannels.cs"] = "hands its bytes to the parser",
        ["Streams/Reading/DescriptionLocator.cs"] = "looks for the description from the file's end",
    };

    public static TheoryData<string, string> Literals => new()
    {
        { "the magic of a stream", @"0x5145564d|""[^""\n]*QEVM[^""\n]*""u8" },
        { "the magic of a channel", @"0x11223344" },
        // Not where it ends the range of printable characters.
        { "the section footer", @"^(?!.*(InRange|<= 0x7e)).*0x7e\b" },
        { "a VFIO marker", @"0xffffffffef10" },
        { "the length of a RAM packet", @"\b1344\b|\b320\b" },
        { "the bytes of pages in a packet", @"\b512 \* 1024 /|\b524288\b" },
        { "the length of a name field", @"\b256 \+ 4\b|\b12 \+ 256\b|NameLength = 256" },
        { "a section type or command by number", @"WriteByte\((0x0)?[1-8]\)|WriteUInt16\(\d+\)" },
    };

    [Theory]
    [MemberData(nameof(Literals))]
    public void No_other_room_has_a_number_of_the_formats(string what, string pattern)
    {
        var sources = Sources().ToList();
        Assert.True(sources.Count > 150, $"{sources.Count} sources");
        var found = sources.SelectMany(source => source.Text.Split('\n')
            .Where(line => Regex.IsMatch(line, pattern)).Select(line => $"{what} in {source.File}: {line.Trim()}"));
        Assert.Equal([], found);
    }

    [Theory]
    [InlineData("if (word == 0x7e)", "0x7e\\b")]
    [InlineData("private const uint Magic = 0x5145564d;", "0x5145564d")]
    [InlineData("output.WriteByte(8);", @"WriteByte\((0x0)?[1-8]\)")]
    public void A_literal_would_be_found(string line, string pattern) => Assert.Matches(pattern, StripComments(line));

    [Fact]
    public void Words_of_the_stream_are_taken_apart_in_one_room_only()
    {
        var users = Sources().Where(source => Rooms().IsMatch(source.File) && TakesWordsApart().IsMatch(source.Text)).Select(source => source.File).ToList();
        Assert.Equal([], users.Except(OtherFormats.Keys));
        Assert.Equal([], OtherFormats.Keys.Except(users));
    }

    private static IEnumerable<(string File, string Text)> Sources()
        => Repository.CodeFiles(Repository.Engine)
            .Concat(Repository.CodeFiles(Path.Combine(Repository.Root, "src", "MigrationOps.PowerShell")))
            .Select(path => (File: Path.GetRelativePath(Repository.Engine, path), Text: StripComments(File.ReadAllText(path))))
            .Where(source => !source.File.StartsWith("Qemu/", StringComparison.Ordinal));

    private static string StripComments(string code) => Comment().Replace(code, "");

    // The rooms that stand on Qemu, and what is made of them. A directory's and a state file's sections are formats of our own.
    [GeneratedRegex(@"^(Multifd|Vfio|SaveVm|Streams|Relay)/|^Devices/(Vfio|Vhost|Section)")]
    private static partial Regex Rooms();

    [GeneratedRegex(@"(BinaryPrimitives\.\w+|WireReader\.|WireWriter\.)BigEndian")]
    private static partial Regex TakesWordsApart();

    [GeneratedRegex(@"//[^\n]*")]
    private static partial Regex Comment();
}
