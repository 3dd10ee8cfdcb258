using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Streams;

/// <summary>One row for each way in which a stream is refused: the reason, and the byte.</summary>
public class StreamErrorTests
{
    private static readonly Dictionary<string, (Func<StreamBuilder, StreamBuilder> Build, StreamError Reason, string Message)> Rows = new()
    {
        ["a machine type that is no text"] = (s => s.U8(7).U32(2).Raw(1, 2).End(), StreamError.InvalidName, "not readable"),
        ["an unknown subsection of the configuration"] = (s => s.Configuration("q").U8(5).Name("configuration/x").U32(1).End(), StreamError.InvalidConfiguration, "configuration/x"),
        ["a subsection of the configuration of a later version"] = (s => s.Configuration("q").U8(5).Name("configuration/uuid").U32(2).End(), StreamError.UnsupportedVersion, "version 2"),
        ["pages of 2^40 bytes"] = (s => s.Configuration("q").U8(5).Name("configuration/target-page-bits").U32(1).U32(40).End(), StreamError.InvalidConfiguration, "2^40"),
        ["a thousand capabilities"] = (s => s.Configuration("q").U8(5).Name("configuration/capabilities").U32(1).U32(1000), StreamError.InvalidConfiguration, "1,000"),
        ["a section without a name"] = (s => s.Section(4, 1, "").Footer(1), StreamError.InvalidName, "is empty"),
        ["a part of a section that never started"] = (s => s.Part(2, 9), StreamError.InvalidSectionId, "id 9"),
        ["an id that is used for two handlers"] = (s => s.Section(4, 1, "a").Footer(1).Section(4, 1, "b").Footer(1).End("{"), StreamError.InvalidSectionId, "a (1)"),
        ["RAM of another version"] = (s => s.Section(1, 1, "ram", 5), StreamError.UnsupportedVersion, "version 5"),
        ["two block lists"] = (s => s.RamList(("m", 4096)).U64(4096 | 4), StreamError.InvalidRam, "second list"),
        ["two empty block lists"] = (s => s.Section(1, 1, "ram", 4).U64(4).U64(4), StreamError.InvalidRam, "second list"),
        ["a block that is larger than the list"] = (s => s.Section(1, 1, "ram", 4).U64(4096 | 4).Name("m").U64(8192), StreamError.InvalidRam, "0x2000 bytes"),
        ["a block that is half a page"] = (s => s.Section(1, 1, "ram", 4).U64(8192 | 4).Name("m").U64(128), StreamError.InvalidRam, "not a whole number of pages"),
        ["a block that is listed twice"] = (s => s.RamList(("m", 4096), ("m", 4096)), StreamError.InvalidRam, "listed twice"),
        ["a page before any block"] = (s => s.RamList(("m", 4096)).Zero(0, null), StreamError.InvalidRam, "none came before"),
        ["a page of an unknown block"] = (s => s.RamList(("m", 4096)).Zero(0, "n"), StreamError.InvalidRam, "'n'"),
        ["a page beyond its block"] = (s => s.RamList(("m", 4096)).Zero(4096, "m"), StreamError.InvalidRam, "0x1000 of RAM block 'm'"),
        ["flags that do not go together"] = (s => s.RamList(("m", 4096)).U64(0x0a), StreamError.InvalidRam, "flags 0xa"),
        ["an RDMA hook"] = (s => s.RamList(("m", 4096)).U64(0x80), StreamError.InvalidRam, "RDMA"),
        ["the obsolete FULL flag"] = (s => s.RamList(("m", 4096)).U64(0x01), StreamError.InvalidRam, "flags 0x1"),
        ["an XBZRLE page that is longer than a page"] = (s => s.RamList(("m", 4096)).U64(0x40).Name("m").U8(1).U16(5000), StreamError.InvalidRam, "5,000 bytes"),
        ["an unknown page encoding"] = (s => s.RamList(("m", 4096)).U64(0x40).Name("m").U8(2).U16(50), StreamError.InvalidRam, "encoding 2"),
        ["a compressed page of a megabyte"] = (s => s.RamList(("m", 4096)).U64(0x100).Name("m").U32(1 << 20), StreamError.InvalidRam, "1,048,576"),
        ["a mapped-ram header of a later version"] = (s => s.Configuration("q", "mapped-ram").RamList(("m", 4096)).U32(2).U64(4096).U64(200).U64(1 << 20), StreamError.InvalidRam, "version 2"),
        ["a mapped-ram bitmap behind us"] = (s => s.Configuration("q", "mapped-ram").RamList(("m", 4096)).U32(1).U64(4096).U64(3).U64(1 << 20), StreamError.InvalidRam, "bitmap at 3"),
        ["a footer that is missing"] = (s => s.RamList(("m", 4096)).U64(0x10).U8(9), StreamError.FooterMismatch, "Expected the section footer (0x7e), found 0x09"),
        ["a footer of another section"] = (s => s.RamList(("m", 4096)).U64(0x10).Footer(2), StreamError.FooterMismatch, "section 1, found that of section 2"),
        ["an unknown command"] = (s => s.Command(12), StreamError.InvalidCommand, "12"),
        ["a ping without its number"] = (s => s.Command(2), StreamError.InvalidCommand, "0 bytes of data, expected 4"),
        ["an advice of 8 bytes"] = (s => s.Command(3, 1, 2, 3, 4, 5, 6, 7, 8), StreamError.InvalidCommand, "8 bytes of data, expected 0 or 16"),
        ["a package in a package"] = (s => s.Command(7, 0, 0, 1, 0).Command(7, 0, 0, 0, 1), StreamError.InvalidPackage, "another one"),
        ["a package that ends in a section"] = (s => s.Command(7, 0, 0, 0, 3).Command(4), StreamError.InvalidPackage, "inside an element"),
        ["a VFIO section without a marker"] = (s => s.Section(1, 5, "0000:00:01.0/vfio").U64(5), StreamError.InvalidMarker, "Expected a marker"),
        ["VFIO data of more than can be"] = (s => s.Section(1, 5, "vfio").U64(0xffffffffef100004).U64(1UL << 63), StreamError.InvalidMarker, "is announced"),
        ["a dirty-bitmap chunk with unknown flags"] = (s => s.Section(1, 5, "dirty-bitmap").U8(0x80), StreamError.UnknownElement, "0x80"),
        ["a dirty-bitmap of 8 EiB"] = (s => s.Section(1, 5, "dirty-bitmap").U8(0x40).U64(0).U32(1).U64(1UL << 62), StreamError.UnknownElement, "is announced"),
        ["a description of 100 MiB"] = (s => s.U8(0).U8(6).U32(100 << 20), StreamError.InvalidDescription, "announces"),
        ["a description that is no JSON"] = (s => s.End("{]"), StreamError.InvalidDescription, "not JSON"),
        ["a description without devices"] = (s => s.End("{\"page_size\":4096}"), StreamError.InvalidDescription, "no 'devices'"),
        ["a description with a key of its own"] = (s => s.End("{\"page_size\":4096,\"devices\":[],\"x\":1}"), StreamError.InvalidDescription, "'x'"),
        ["a description with pages of 3 bytes"] = (s => s.End("{\"page_size\":3,\"devices\":[]}"), StreamError.InvalidDescription, "page_size"),
        ["a description with a text for a number"] = (s => s.End("{\"page_size\":\"x\",\"devices\":[]}"), StreamError.InvalidDescription, "another kind"),
        ["a device that is not described"] = (s => s.Section(4, 1, "d").Footer(1).End("{\"page_size\":4096,\"devices\":[]}"), StreamError.DescriptionMismatch, "does not have this device"),
        ["a device that is longer than described"] = (s => s.Section(4, 1, "d").U8(1).Footer(1).End(FieldTests.Json("d", "")), StreamError.DescriptionMismatch, "1 bytes"),
    };

    public static TheoryData<string> Names => [.. Rows.Keys];

    [Theory, MemberData(nameof(Names))]
    public void It_is_refused_with_reason_and_place(string row)
    {
        var (build, reason, message) = Rows[row];
        byte[] stream = build(new StreamBuilder()).Bytes;
        using var scope = new TransferScope(TransferScope.DefaultTimeout);
        using var source = new MigrationStreamInput { Path = row, Forward = new ForwardOnly(stream) }.Open(scope);
        using var contents = MigrationStreamFile.Read(source, new StreamReadOptions(), scope);

        // A description is no part of what QEMU loads: the stream is whole without it.
        bool isDescription = reason is StreamError.InvalidDescription or StreamError.DescriptionMismatch;
        Assert.True(!isDescription || contents is { ReachedEof: true, Failure: null }, contents.Failure?.Message);
        var failure = isDescription ? contents.DescriptionFailure : contents.Failure;
        Assert.NotNull(failure);
        Assert.Equal(isDescription, failure.RecommendedAction.Contains("QEMU does not read the description", StringComparison.Ordinal));
        Assert.True(failure.Reason == reason, $"{failure.Reason}: {failure.Message}");
        Assert.Contains(message, failure.Message, StringComparison.Ordinal);
        Assert.True(failure.ByteOffset is >= 8 || reason == StreamError.InvalidDescription, $"{failure.ByteOffset}");
        Assert.NotEmpty(failure.RecommendedAction);
    }

    [Fact]
    public void A_package_is_walked_and_ends()
    {
        var inner = StreamBuilder.Empty().Command(4).Section(4, 7, "device").Raw(1, 2, 3).Footer(7).Command(5).Bytes;
        byte[] stream = [.. new StreamBuilder().Command(7, 0, 0, 0, (byte)inner.Length).Bytes, .. inner, .. StreamBuilder.Empty().End().Bytes];
        var log = EventLog.Walk(stream);
        Assert.Contains($"@{17 + inner.Length} package end", log.Lines);
        Assert.Contains("end 7 3 3 " + log.Lines.Single(l => l.StartsWith("end 7", StringComparison.Ordinal)).Split(' ')[^1], log.Lines);
        Assert.Equal(log.Lines, EventLog.Walk(stream, null, 1).Lines);
    }

    [Fact]
    public void Postcopy_s_huge_page_size_is_told_from_the_next_block()
    {
        // POSTCOPY_ADVISE: pages of 4 KiB and 2 MiB on the source's host.
        byte[] stream = new StreamBuilder().Command(3, 0, 0, 0, 0, 0, 0x20, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x10, 0)
            .Section(1, 1, "ram", 4).U64((4UL << 20) + 4096 | 4).Name("huge").U64(4 << 20).U64(2 << 20).Name("small").U64(4096)
            .EndRam().End().Bytes;
        var log = EventLog.Walk(stream);
        Assert.Equal([2L << 20, null], log.Blocks.Select(b => b.HostPageSize));
        Assert.Equal(log.Lines, EventLog.Walk(stream, null, 1).Lines);
    }

    [Fact]
    public void A_body_that_looks_like_a_footer_does_not_end_the_section()
    {
        // The footer's bytes, then something that cannot follow one; and the real end.
        byte[] stream = new StreamBuilder().Section(4, 0, "d").Footer(0).Raw(0, 0).Footer(0).Raw(9).Footer(0).Raw(2, 0, 0, 0, 77).Footer(0)
            .Section(4, 1, "e").Footer(1).End(FieldTests.Json("x", "")).Bytes;
        var log = EventLog.Walk(stream);
        Assert.Contains(log.Lines, l => l.StartsWith("end 0 23 23 ", StringComparison.Ordinal));
        Assert.Contains(log.Lines, l => l.StartsWith("end 1 0 0 ", StringComparison.Ordinal));
    }

    [Fact]
    public void A_cancelled_read_ends_and_leaves_nothing()
    {
        using var cancelled = new CancellationTokenSource();
        var input = new MigrationStreamInput { Path = StreamVectors.PathOf("microvm-tcg.plain.stream") };
        using var scope = new TransferScope(TransferScope.DefaultTimeout, cancelled.Token) { Progress = _ => cancelled.Cancel() };
        Assert.Throws<OperationCanceledException>(() => MigrationStreams.GetInfo(input, scope));
    }
}
