using System.Text;
using FsCheck.Fluent;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Streams;

public class StreamWalkerTests
{
    public static TheoryData<string> Streams =>
    [
        "none-tcg.plain.stream", "microvm-tcg.plain.stream", "q35-kvm.ignore-shared.stream", "small.stream",
        "vfio-classic.main.stream", "vfio-2dev.main.stream",
    ];

    [Theory, MemberData(nameof(Streams))]
    public void A_real_stream_is_walked_to_its_last_byte_the_same_with_and_without_its_description(string name)
    {
        byte[] stream = StreamVectors.Read(name);
        var blind = EventLog.Walk(stream);
        var description = StreamDescription.Parse(Encoding.UTF8.GetBytes(blind.Description), new MemoryBudget());
        var described = EventLog.Walk(stream, description);
        Assert.Equal(described.Lines, blind.Lines);
        Assert.Equal(0, blind.Trailing);
        Assert.Contains(blind.Lines, line => line.EndsWith(" EOF", StringComparison.Ordinal));
        Assert.Equal(
            description.Devices.Select(d => (d.Name, d.InstanceId)).Order(),
            blind.Lines.Select(l => l.Split(' ')).Where(p => p is [_, "Full", ..]).Select(p => (p[3], uint.Parse(p[4]))).Order());
    }

    [Fact]
    public void The_smallest_stream_has_the_sections_that_qemu_wrote()
    {
        var log = EventLog.Walk(StreamVectors.Read("none-tcg.plain.stream"));
        string[] sections = [.. log.Lines.Where(l => l.Contains(" v", StringComparison.Ordinal) && l.Contains("body@", StringComparison.Ordinal)).Select(l => l.Split(" v")[0])];
        Assert.Equal("@8 configuration none  [] ", log.Lines[0]);
        Assert.Equal(("m0", 0x800000L), (log.Blocks[0].Name, log.Blocks[0].Length));
        Assert.Contains(sections, s => s.Contains("Full 0 timer 0", StringComparison.Ordinal));
        Assert.Contains(sections, s => s.Contains("Full 3 globalstate 0", StringComparison.Ordinal));
        Assert.Equal(2048, log.Pages.Values.Sum());
    }

    [Fact]
    public void A_vfio_device_s_precopy_data_comes_with_its_markers()
    {
        // The numbers are those of the capture's own listing.
        var log = EventLog.Walk(StreamVectors.Read("vfio-2dev.main.stream"));
        Assert.Contains("@27 OpenReturnPath ", log.Lines);
        Assert.Contains("@32 Ping 00000001", log.Lines);
        Assert.Contains("@601381 SwitchoverStart ", log.Lines);
        Assert.Contains("@429 Part 38 0000:00:04.0/vfio 0 v1 body@434", log.Lines);
        Assert.Contains("@434 DataState 31154", log.Lines);
        Assert.Contains("@31604 EndOfState 0", log.Lines);
        Assert.Contains("@583646 InitDataSent 0", log.Lines);
        Assert.Contains("@614172 Full 38 0000:00:04.0/vfio 0 v1 body@614203", log.Lines);
        Assert.Contains("@614424 EOF", log.Lines);
        Assert.Contains("@614425 description 99278", log.Lines);
        Assert.Equal("pc.ram,/rom@etc/acpi/tables,pc.bios,pc.rom,/rom@etc/table-loader,/rom@etc/acpi/rsdp",
            string.Join(',', log.Blocks.Select(b => b.Name)));
    }

    [Fact]
    public void Ignored_shared_blocks_have_their_address_and_no_pages()
    {
        var log = EventLog.Walk(StreamVectors.Read("q35-kvm.ignore-shared.stream"));
        Assert.Contains("[x-ignore-shared]", log.Lines[0], StringComparison.Ordinal);
        Assert.All(log.Blocks, b => Assert.NotNull(b.Address));
    }

    [Theory]
    [InlineData("none-tcg.plain.stream")]
    [InlineData("small.stream")]
    [InlineData("vfio-2dev.main.stream")]
    public void Any_cutting_of_the_bytes_gives_the_same_events(string name)
    {
        byte[] stream = StreamVectors.Read(name);
        var whole = EventLog.Walk(stream);
        var description = StreamDescription.Parse(Encoding.UTF8.GetBytes(whole.Description), new MemoryBudget());
        if (stream.Length < 100_000)
        {
            Assert.Equal(whole.Lines, EventLog.Walk(stream, null, 1).Lines);
        }

        var sizes = Gen.Choose(1, 9000).NonEmptyListOf().Select(list => list.ToArray());
        Property.Holds(sizes, pieces =>
        {
            var blind = EventLog.Walk(stream, null, pieces);
            return blind.Lines.SequenceEqual(whole.Lines) && blind.Description == whole.Description
                && EventLog.Walk(stream, description, pieces).Lines.SequenceEqual(whole.Lines);
        }, tries: 20);
    }

    [Fact]
    public void Every_cut_ends_in_a_named_error_or_before_the_description()
    {
        byte[] stream = StreamVectors.Read("none-tcg.plain.stream");
        var whole = EventLog.Walk(stream);
        int eof = int.Parse(whole.Lines.Single(l => l.EndsWith(" EOF", StringComparison.Ordinal)).Split('@', ' ')[1]);
        for (int length = 0; length < stream.Length; length++)
        {
            var cut = stream.AsSpan(0, length).ToArray();
            if (length == eof + 1)
            {
                // Old machine types write no description: a cut exactly there cannot be told from theirs by walking.
                Assert.Empty(EventLog.Walk(cut).Description);
                continue;
            }

            var e = Assert.Throws<StreamException>(() => EventLog.Walk(cut));
            Assert.True(e.Reason == StreamError.Truncated, $"{length}: {e.Message}");
            Assert.Equal(length, e.ByteOffset);
        }
    }

    [Theory]
    [InlineData(0, new byte[] { 0x51, 0x45, 0x56, 0x4e }, StreamError.NotAStream, 0L)]
    [InlineData(4, new byte[] { 0, 0, 0, 2 }, StreamError.UnsupportedVersion, 4L)]
    [InlineData(4, new byte[] { 0, 0, 0, 4 }, StreamError.UnsupportedVersion, 4L)]
    [InlineData(8, new byte[] { 9 }, StreamError.UnknownElement, 8L)]
    [InlineData(9, new byte[] { 0x7f, 0, 0, 0 }, StreamError.InvalidConfiguration, 8L)]
    public void A_damaged_head_is_named(int offset, byte[] bytes, StreamError reason, long at)
    {
        byte[] stream = StreamVectors.Read("none-tcg.plain.stream");
        bytes.CopyTo(stream, offset);
        var e = Assert.Throws<StreamException>(() => EventLog.Walk(stream));
        Assert.Equal((reason, at), (e.Reason, e.ByteOffset));
    }
}
