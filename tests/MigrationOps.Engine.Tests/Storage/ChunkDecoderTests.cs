using FsCheck;
using FsCheck.Fluent;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Tests.Support;
using Property = MigrationOps.Engine.Tests.Support.Property;

namespace MigrationOps.Engine.Tests.Storage;

public class ChunkDecoderTests
{
    [Fact]
    public void Any_split_of_chunks_into_reads_gives_the_same_data()
    {
        var inputs = from chunks in Gen.Choose(1, 300).ListOf()
                     from seed in Gen.Choose(0, int.MaxValue)
                     from sizes in Property.Splits(64)
                     select (chunks: chunks.Select(size => States.RandomBytes(size, seed)).ToArray(), sizes);
        Property.Holds(inputs, input =>
        {
            byte[] whole = Encode(input.chunks);
            var decoder = new ChunkDecoder();
            var data = new List<byte>();
            foreach (var piece in Property.Cut(whole, input.sizes))
            {
                var rest = piece.Span;
                while (!rest.IsEmpty)
                {
                    Assert.False(decoder.HasEnded);
                    data.AddRange(decoder.Decode(ref rest));
                }
            }

            Assert.Equal(input.chunks.SelectMany(chunk => chunk), data);
            Assert.True(decoder.HasEnded);
            Assert.Equal((input.chunks.Length, data.Count), ((int)decoder.Chunks, (int)decoder.Bytes));
        });
    }

    [Fact]
    public void Where_a_cut_loses_data_and_where_only_the_end_mark_is_told_apart()
    {
        byte[] whole = Encode([[1, 2, 3], [4]]);
        for (int length = 0; length <= whole.Length; length++)
        {
            var decoder = new ChunkDecoder();
            ReadOnlySpan<byte> input = whole.AsSpan(0, length);
            while (!input.IsEmpty)
            {
                decoder.Decode(ref input);
            }

            Assert.Equal(length == whole.Length, decoder.HasEnded);
            Assert.Equal(length is 0 or 7 or 12 or 16, decoder.IsBetweenChunks);
        }
    }

    [Fact]
    public void What_follows_the_end_is_not_consumed()
    {
        ReadOnlySpan<byte> input = [0, 0, 0, 1, 9, 0, 0, 0, 0, 42];
        var decoder = new ChunkDecoder();
        Assert.Equal(9, decoder.Decode(ref input)[0]);
        Assert.True(decoder.Decode(ref input).IsEmpty);
        Assert.True(decoder.HasEnded);
        Assert.True(decoder.Decode(ref input).IsEmpty);
        Assert.Equal(1, input.Length);
        Assert.Equal(0, decoder.HeaderBytesWanted);
    }

    [Fact]
    public void A_chunk_of_four_gibibytes_is_taken_as_it_comes()
    {
        ReadOnlySpan<byte> input = [0xff, 0xff, 0xff, 0xff, 1];
        var decoder = new ChunkDecoder();
        Assert.Equal(1, decoder.Decode(ref input).Length);
        Assert.Equal((uint.MaxValue, uint.MaxValue - 1), (decoder.ChunkLength, decoder.Remaining));
        decoder.Advance(decoder.Remaining);
        Assert.Equal(uint.MaxValue, decoder.Bytes);
        Assert.Equal(4, decoder.HeaderBytesWanted);
        Assert.Throws<ArgumentOutOfRangeException>(() => new ChunkDecoder().Advance(1));
    }

    private static byte[] Encode(IEnumerable<byte[]> chunks)
    {
        using var output = new MemoryStream();
        byte[] header = new byte[4];
        foreach (byte[] chunk in chunks.Append([]))
        {
            ChunkDecoder.WriteHeader(header, (uint)chunk.Length);
            output.Write(header);
            output.Write(chunk);
        }

        return output.ToArray();
    }
}
