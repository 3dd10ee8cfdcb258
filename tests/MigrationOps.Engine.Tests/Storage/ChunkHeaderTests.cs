using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Storage;

/// <summary>Chunks as a back-end's state has them: their heads as values, and a field of them as a whole.</summary>
public class ChunkHeaderTests
{
    [Fact]
    public void Fewer_bytes_than_a_head_are_left_where_they_are()
    {
        byte[] head = [0xff, 0xff, 0xff, 0xfe, 1];
        for (int length = 0; length <= head.Length; length++)
        {
            var reader = WireReader.BigEndian(head.AsSpan(0, length));
            Assert.Equal(length >= 4, ChunkHeader.TryRead(ref reader, out var header));
            Assert.Equal(length >= 4 ? (4, 0xfffffffeu) : (0, 0u), (reader.Position, header.Length));
        }
    }

    [Fact]
    public void A_field_of_chunks_is_copied_whole_and_every_cut_of_it_is_told()
    {
        byte[][] chunks = [States.RandomBytes(3), States.RandomBytes(200_000), States.RandomBytes(1)];
        byte[] whole = Encode(chunks);
        Assert.Equal(chunks.SelectMany(chunk => chunk), Copy(whole));
        foreach (int length in Enumerable.Range(0, 20).Concat(Enumerable.Range(1, 20).Select(fromEnd => whole.Length - fromEnd)))
        {
            var failure = Assert.Throws<StreamException>(() => Copy(whole[..length]));
            Assert.Equal((StreamError.InvalidChunks, 100L + length), (failure.Reason, failure.ByteOffset));
            bool isBetween = length < 4 || (length >= 7 && length < 11) || length >= whole.Length - 4 || (length >= whole.Length - 9 && length < whole.Length - 5);
            Assert.Contains(isBetween ? "the chunks' end mark is missing" : "are missing.", failure.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Bytes_behind_the_end_mark_are_told()
        => Assert.Equal(100L + 9, Assert.Throws<StreamException>(() => Copy([.. Encode([[9]]), 42])).ByteOffset);

    [Fact]
    public void A_chunk_that_announces_four_gibibytes_costs_no_memory()
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        var failure = Assert.Throws<StreamException>(() => Copy([0xff, 0xff, 0xff, 0xff, 1, 2, 3]));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1 << 20);
        Assert.Contains("chunk 1 announces 4,294,967,295 bytes, 4,294,967,292 of them are missing", failure.Message, StringComparison.Ordinal);
    }

    private static List<byte> Copy(byte[] chunks)
    {
        var data = new List<byte>();
        var field = new StateNode { Name = "backend", Type = "buffer", Offset = 100, Size = chunks.Length };
        long count = BackendChunks.Copy(new Bytes(chunks), field, "virt", piece => data.AddRange(piece));
        Assert.Equal(data.Count, count);
        return data;
    }

    private static byte[] Encode(IEnumerable<byte[]> chunks)
    {
        using var output = new MemoryStream();
        byte[] header = new byte[ChunkHeader.Size];
        foreach (byte[] chunk in chunks.Append([]))
        {
            ChunkHeader.Write(header, (uint)chunk.Length);
            output.Write(header);
            output.Write(chunk);
        }

        return output.ToArray();
    }

    /// <summary>A stream of which these bytes lie at byte 100.</summary>
    private sealed class Bytes(byte[] content) : StreamBytes
    {
        internal override void Read(long offset, Span<byte> destination) => content.AsSpan((int)offset - 100, destination.Length).CopyTo(destination);

        public override void Dispose()
        {
        }
    }
}
