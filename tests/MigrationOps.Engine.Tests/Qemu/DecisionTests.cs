using System.Buffers.Binary;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.SaveVm;
using MigrationOps.Engine.Tests.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Tests.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Qemu;

/// <summary>
/// What was once decided differently by each reader of QEMU's bytes, decided once, with the answer of the real QEMU beside it. The
/// answers are those of 10.0.2, 10.0.13 and 11.1.3 unless said otherwise; tests/Interop/Streams/FormatDecisionTests.cs asks a QEMU anew.
/// </summary>
public sealed class DecisionTests
{
    private const string Whole = "none-tcg.plain.stream";

    public static TheoryData<string, string?, string> Streams => new()
    {
        // "Not a migration stream"
        { "not a stream", "StreamNotAStream", "0x5145564e" },

        // A target of another page size: "Received TARGET_PAGE_BITS is 8 but local is 12". 2^8 is what qemu-system-avr has.
        { "page bits 8", null, "" },
        { "page bits 16", null, "" },

        // No target has them: "Received TARGET_PAGE_BITS is 40 but local is 12"
        { "page bits 7", "StreamInvalidConfiguration", "2^7 is not supported (2^8 to 2^16)" },
        { "page bits 17", "StreamInvalidConfiguration", "2^17" },

        // "configuration/uuid: incoming version_id 2 is too new for local version_id 1"; 0: "is too old for local minimum version_id  1"
        { "subsection version 2", "StreamUnsupportedVersion", "found version 2" },
        { "subsection version 0", "StreamUnsupportedVersion", "found version 0" },

        // "VM subsection 'configuration/zzz' in 'configuration' does not exist" (11.1.3), "No such file or directory" (10.0)
        { "unknown subsection", "StreamInvalidConfiguration", "configuration/zzz" },

        // QEMU has no limit and refuses each name that it does not know: "Received unknown capability x-zzz". It knows about twenty, and
        // memory has to stay bounded here.
        { "capabilities 256", null, "" },
        { "capabilities 257", "StreamInvalidConfiguration", "257 capabilities; 256 are read at most" },
        { "capabilities 4294967295", "StreamInvalidConfiguration", "4,294,967,295" },

        // Compared up to its length, so that an empty one fits every machine: loaded.
        { "empty machine type", null, "" },

        // "MIG_CMD 0xc unknown (len 0x0)", "PING received with bad length - expecting 4, got 3"
        { "command 12", "StreamInvalidCommand", "12" },
        { "ping of 3 bytes", "StreamInvalidCommand", "3 bytes of data, expected 4" },

        // "Unknown savevm section type 9"
        { "section type 9", "StreamUnknownElement", "0x09" },

        // Loaded.
        { "package that is an end mark", null, "" },

        // Loaded, and the bytes are dropped silently. Refused here on purpose: what is in a package was meant to be loaded.
        { "bytes behind the end mark of a package", "StreamInvalidPackage", "follow the end mark" },

        // "Missing section footer for ram"
        { "no footer mark", "StreamFooterMismatch", "found 0x7f" },

        // "Mismatched section id in footer for ram - read 0x63 expected 0x1"
        { "footer of section 99", "StreamFooterMismatch", "found that of section 99" },
    };

    /// <summary>A package is a matter of postcopy's order for the target driver; PostcopyTargetTests has it.</summary>
    public static IEnumerable<TheoryDataRow<string, string?, string>> StreamsWithoutPackage
        => Streams.Where(row => !row.Data.Item1.Contains("package", StringComparison.Ordinal));

    [Theory]
    [MemberData(nameof(Streams))]
    public void The_reader_decides_as_the_peer(string what, string? error, string words)
    {
        AssertDecision(what, error, words, Read(new MigrationStreamInput { Path = "altered", Forward = new MemoryStream(AlteredStream.Of(StreamVectors.Read(Whole), what), writable: false) }, out var info));
        Assert.True(error is not null || info!.Sections.Length > 0, what);
    }

    [Theory]
    [MemberData(nameof(StreamsWithoutPackage))]
    public void The_target_driver_decides_as_the_reader(string what, string? error, string words)
    {
        using var folder = new TestFolder();
        var options = new SaveVmTargetOptions { SpoolPath = Path.Combine(folder.Path, "kept"), Capabilities = ["x-zzz"] };
        AssertDecision(what, error, words, Record.Exception(() => BrokenConnectionTests.Load(new SaveVmRegistry(), AlteredStream.Of(StreamVectors.Read(Whole), what), options)));
    }

    [Theory]
    [MemberData(nameof(Streams))]
    public void The_receiver_of_channels_decides_as_the_reader(string what, string? error, string words)
        => AssertDecision(what, error, words, Record.Exception(() => Reception.Run([new MemoryStream(AlteredStream.Of(StreamVectors.Read(Whole), what), writable: false)])));

    // flags | 0x1000 and | 0x80000000 on every packet: "completed". flags | 0x6: "multifd 1: flags received 6 flags expected 0".
    [Theory]
    [InlineData(0x1000u, null)]
    [InlineData(0x80000000u, null)]
    [InlineData(0x6u, "StreamInvalidRamPacket")]
    public void Unknown_flags_of_packets_are_a_warning_and_several_compressions_an_error_for_every_reader(uint flags, string? error)
    {
        byte[][] connections = [.. Enumerable.Range(0, 3).Select(i => File.ReadAllBytes(
            Path.Combine(AppContext.BaseDirectory, "Vectors", "multifd", $"plain-2ch.ch{i}.bin")))];
        for (int at = 64; at < connections[1].Length; at += 1344 + BinaryPrimitives.ReadInt32BigEndian(connections[1].AsSpan(at + 20)))
        {
            connections[1].AsSpan(at + 8, 4)[0] |= (byte)(flags >> 24);
            connections[1].AsSpan(at + 8, 4)[2] |= (byte)(flags >> 8);
            connections[1].AsSpan(at + 8, 4)[3] |= (byte)flags;
        }

        using var folder = new TestFolder();
        for (int i = 0; i < 3; i++)
        {
            File.WriteAllBytes(Path.Combine(folder.Path, $"conn{i}"), connections[i]);
        }

        Reception? received = null;
        var failure = Record.Exception(() => received = Reception.Run(connections.Select(bytes => new MemoryStream(bytes, writable: false))));
        Read(new MigrationStreamInput { Path = folder.Path }, out var info);
        var report = MigrationStreams.Test(new MigrationStreamInput { Path = folder.Path });
        if (error is null)
        {
            string warning = $"packets have the unknown flag bits 0x{flags:x}, which QEMU ignores";
            Assert.Null(failure);
            Assert.EndsWith(warning + ".", Assert.Single(received!.Migration.Warnings));
            Assert.Equal([warning], info!.Channels.SelectMany(c => c.Warnings));
            Assert.Contains(report.Checks, check => check.Passed && check.Detail.Contains(warning, StringComparison.Ordinal));
        }
        else
        {
            Assert.Equal(error, Assert.IsType<StreamException>(failure).ErrorId);
            Assert.Contains(report.Checks, check => !check.Passed && check.Detail.Contains("several compressions", StringComparison.Ordinal));
        }
    }

    // "Received 'REQ_PAGES_ID' message (0x0003) withincorrect length 513 expecting 18446744073709551615", "Received 'SHUT' message
    // (0x0001) withincorrect length 2 expecting 4", "Received invalid message 0x0009 length 0x0000".
    [Theory]
    [InlineData("0003 0200", 512, null)]
    [InlineData("0003 0201", 513, "513 bytes of data, expected 512 at most")]
    [InlineData("0005 0201", 513, "513 bytes of data, expected 512 at most")]
    [InlineData("0001 0002", 2, "2 bytes of data, expected 4")]
    [InlineData("0002 0003", 3, "3 bytes of data, expected 4")]
    [InlineData("0009 0000", 0, "Message 9 on the return path is unknown")]
    public void The_return_path_has_the_lengths_that_a_source_takes(string head, int length, string? words)
    {
        byte[] message = [.. Convert.FromHexString(head.Replace(" ", "", StringComparison.Ordinal)), .. new byte[length]];
        var failure = Record.Exception(() =>
        {
            var reader = WireReader.BigEndian(message);
            Assert.True(ReturnPathCodec.TryRead(ref reader, out _));
            Assert.Equal(message.Length, reader.Position);
        });
        Assert.Equal(words is null ? null : "StreamInvalidReturnPath", (failure as MigrationOpsException)?.ErrorId);
        Assert.Contains(words ?? "", failure?.Message ?? "", StringComparison.Ordinal);
    }

    private static void AssertDecision(string what, string? error, string words, Exception? failure)
    {
        Assert.True(error == (failure as MigrationOpsException)?.ErrorId, $"{what}: {failure}");
        Assert.Contains(words, failure?.Message ?? "", StringComparison.Ordinal);
    }

    private static Exception? Read(MigrationStreamInput input, out MigrationStreamInfo? info)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        MigrationStreamInfo? read = null;
        var failure = Record.Exception(() => read = MigrationStreams.GetInfo(input, scope));
        info = read;
        return failure ?? scope.Failure;
    }
}
