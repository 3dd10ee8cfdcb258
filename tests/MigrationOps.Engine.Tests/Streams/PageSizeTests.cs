using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Streams;

/// <summary>Streams that come through a pipe and do not say how large a page is.</summary>
public class PageSizeTests
{
    [Theory]
    [InlineData(256)]
    [InlineData(512)]
    [InlineData(1024)]
    [InlineData(2048)]
    [InlineData(4096)]
    [InlineData(8192)]
    [InlineData(16384)]
    [InlineData(32768)]
    [InlineData(65536)]
    public void It_is_seen_from_where_the_second_page_lies(int size)
    {
        var pages = Enumerable.Range(0, 8).Select(i => Filled(size, i)).ToArray();
        var stream = new StreamBuilder().RamList(("a", 8L * size), ("b", size)).U64(0x10).Footer(1).Part(2, 1);
        for (int i = 0; i < pages.Length; i++)
        {
            stream.U64(((ulong)i * (ulong)size) | (i == 0 ? 0x08UL : 0x28UL)).Raw(i == 0 ? [1, (byte)'a', .. pages[i]] : pages[i]);
        }

        AssertWhole(stream.Zero(0, "b").U64(0x10).Footer(1).Part(3, 1).U64(0x10).Footer(1).End(), size, whole: 8, zero: 1);
    }

    [Theory]
    [InlineData(1024)]
    [InlineData(4096)]
    public void It_is_seen_from_the_second_zero_page(int size)
    {
        var stream = new StreamBuilder().RamList(("a", 4L * size)).Zero(0, "a").Zero(size, null).Zero(2 * size, null)
            .U64((3UL * (ulong)size) | 0x28).Raw(Filled(size, 1)).U64(0x10).Footer(1).Part(3, 1).U64(0x10).Footer(1).End();
        AssertWhole(stream, size, whole: 1, zero: 3);
    }

    [Fact]
    public void It_is_the_usual_one_if_the_second_zero_page_is_not_the_next()
    {
        var stream = new StreamBuilder().RamList(("a", 4L * 4096)).Zero(0, "a").Zero(2 * 4096, null).Zero(4096, null)
            .Zero(3 * 4096, null).U64(0x10).Footer(1).Part(3, 1).U64(0x10).Footer(1).End();
        AssertWhole(stream, 4096, whole: 0, zero: 4);
    }

    [Theory]
    [InlineData(1024)]
    [InlineData(4096)]
    [InlineData(16384)]
    public void It_is_seen_from_the_end_of_a_section_with_one_page_or_from_another_block(int size)
    {
        byte[] page = Filled(size, 3);
        AssertWhole(new StreamBuilder().RamList(("a", size)).U64(0x08).Raw([1, (byte)'a', .. page])
            .U64(0x10).Footer(1).Part(3, 1).U64(0x10).Footer(1).End(), size, whole: 1, zero: 0);
        AssertWhole(new StreamBuilder().RamList(("a", size), ("b", 2L * size)).U64(0x08).Raw([1, (byte)'a', .. page]).Zero(0, "b").Zero(size, null)
            .U64(0x10).Footer(1).Part(3, 1).U64(0x10).Footer(1).End(), size, whole: 1, zero: 2);
    }

    [Fact]
    public void A_page_that_begins_nowhere_is_refused()
    {
        var stream = new StreamBuilder().RamList(("a", 4L * 4096)).U64(0x08).Raw([1, (byte)'a', .. Filled(4096, 1)]).Zero(4096, null).Zero(0x2400, null);
        using var scope = new TransferScope(TransferScope.DefaultTimeout);
        var info = MigrationStreams.GetInfo(Input(stream.Bytes), scope);
        var failure = scope.Failure as StreamException;
        Assert.Equal(StreamError.InvalidRam, failure?.Reason);
        Assert.Contains("0x2400 of RAM block 'a', which is not a multiple of the 4,096 bytes of a page", failure!.Message, StringComparison.Ordinal);
        Assert.False(info.Complete);
    }

    [Theory]
    [InlineData(256)]
    [InlineData(8192)]
    [InlineData(65536)]
    public void Zero_pages_that_come_first_are_counted_right_once_a_whole_page_shows_the_size(int size)
    {
        // Three of the five pages are zero; the places of the first two do not tell how large they are.
        var stream = new StreamBuilder().RamList(("a", 5L * size)).Zero(0, "a").Zero(4L * size, null).U64(((ulong)size) | 0x28).Raw(Filled(size, 7))
            .Zero(2L * size, null).U64((3UL * (ulong)size) | 0x28).Raw(Filled(size, 8)).U64(0x10).Footer(1).Part(3, 1).U64(0x10).Footer(1).End();
        AssertWhole(stream, size, whole: 2, zero: 3);
    }

    [Theory]
    [InlineData(256)]
    [InlineData(512)]
    [InlineData(2048)]
    [InlineData(32768)]
    public void Places_of_zero_pages_tell_the_size_where_all_pages_are_zero(int size)
    {
        var stream = new StreamBuilder().RamList(("a", 3L * size), ("b", 1L * size)).Zero(0, "a").Zero(size, null).Zero(2L * size, null).Zero(0, "b")
            .U64(0x10).Footer(1).Part(3, 1).U64(0x10).Footer(1).End();
        AssertWhole(stream, size, whole: 0, zero: 4);
    }

    [Fact]
    public void A_page_that_looks_like_records_of_smaller_pages_is_taken_whole()
    {
        // 256 bytes into the page lies what could be a record of the next page of 256 bytes, but not two of them.
        byte[] page = Filled(4096, 5);
        page.AsSpan(256, 8).Clear();
        (page[262], page[263]) = (0x01, 0x28);
        var stream = new StreamBuilder().RamList(("a", 2L * 4096)).U64(0x08).Raw([1, (byte)'a', .. page]).U64(4096 | 0x28).Raw(Filled(4096, 6))
            .U64(0x10).Footer(1).Part(3, 1).U64(0x10).Footer(1).End();
        AssertWhole(stream, 4096, whole: 2, zero: 0);
    }

    // Words that could be taken for a record, but for their place in the block.
    private static byte[] Filled(int size, int seed)
    {
        var page = new byte[size];
        new Random(seed).NextBytes(page);
        for (int at = 1024; at + 8 <= size; at += 1024)
        {
            page.AsSpan(at, 8).Fill((byte)(at >> 10));
        }

        return page;
    }

    private static void AssertWhole(StreamBuilder stream, int size, int whole, int zero)
    {
        using var scope = new TransferScope(TransferScope.DefaultTimeout);
        var info = MigrationStreams.GetInfo(Input(stream.Bytes), scope);
        var failure = scope.Failure as StreamException;
        Assert.True(failure is null, failure?.Message);
        Assert.Equal(size, info.PageSize);
        Assert.Equal((whole, zero, 0L), (info.RamBlocks.Sum(b => b.NormalPages), info.RamBlocks.Sum(b => b.ZeroPages), info.RamBlocks.Sum(b => b.MissingPages)));
        var once = EventLog.Walk(stream.Bytes);
        Assert.Equal(once.Lines, EventLog.Walk(stream.Bytes, null, 1).Lines);
        Assert.Equal(once.Lines, EventLog.Walk(stream.Bytes, null, 1000).Lines);
    }

    private static MigrationStreamInput Input(byte[] stream) => new() { Path = "built", Forward = new ForwardOnly(stream) };
}
