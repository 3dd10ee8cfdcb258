using System.Buffers;
using FsCheck;
using FsCheck.Fluent;
using MigrationOps.Engine.Wire;
using Property = MigrationOps.Engine.Tests.Support.Property;

namespace MigrationOps.Engine.Tests.Wire;

public class WireReaderWriterTests
{
    private static readonly Gen<Item> Items = Gen.OneOf(
        Gen.Choose(0, 255).Select(v => new Item(1, (ulong)v, [])),
        Gen.Choose(0, 65535).Select(v => new Item(2, (ulong)v, [])),
        ArbMap.Default.GeneratorFor<uint>().Select(v => new Item(4, v, [])),
        ArbMap.Default.GeneratorFor<ulong>().Select(v => new Item(8, v, [])),
        ArbMap.Default.GeneratorFor<byte[]>().Select(v => new Item(0, 0, v)));

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void What_is_written_is_read_back_in_either_byte_order(bool bigEndian) => Property.Holds(Items.ListOf(), items =>
    {
        var reader = Reader(Write(items, bigEndian), bigEndian, 1000);
        foreach (var item in items)
        {
            Assert.Equal(item.Value, Read(ref reader, item, out byte[] bytes));
            Assert.Equal(item.Bytes, bytes);
        }

        Assert.Equal(0, reader.Remaining);
        Assert.Equal(1000 + reader.Position, reader.Offset);
    });

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Every_read_that_lacks_bytes_says_so_consumes_nothing_and_names_the_offset(bool bigEndian)
        => Property.Holds(Items.Where(item => item.Size > 0), item =>
        {
            byte[] whole = Write([item], bigEndian);
            for (int length = 0; length < whole.Length; length++)
            {
                var reader = Reader(whole.AsSpan(0, length), bigEndian, 4096);
                Assert.False(TryRead(ref reader, item));
                Assert.Equal(0, reader.Position);
                WireException? failure = null;
                try
                {
                    Read(ref reader, item, out _);
                }
                catch (WireException e)
                {
                    failure = e;
                }

                Assert.Equal(WireError.UnexpectedEnd, failure?.Reason);
                Assert.Equal(4096, failure!.ByteOffset);
                Assert.Equal("thing", failure.Section);
                Assert.Contains($"{item.Size} bytes are needed, {length} are left", failure.Message);
                Assert.Equal(0, reader.Position);
                Assert.Equal(length, reader.Rest.Length);
            }
        });

    [Fact]
    public void Big_endian_has_the_high_byte_first_and_little_endian_last()
    {
        Assert.Equal("0102 01020304 0102030405060708 FFFFFFFE".Replace(" ", ""), Hex(WireWriterOf(true)));
        Assert.Equal("0201 04030201 0807060504030201 FEFFFFFF".Replace(" ", ""), Hex(WireWriterOf(false)));
    }

    [Fact]
    public void Negative_numbers_survive()
    {
        var output = new ArrayBufferWriter<byte>();
        WireWriter.BigEndian(output).WriteInt32(int.MinValue);
        Assert.Equal(int.MinValue, WireReader.BigEndian(output.WrittenSpan).ReadInt32("n"));
    }

    [Fact]
    public void A_negative_count_is_never_read()
    {
        var reader = WireReader.BigEndian(new byte[8]);
        Assert.False(reader.TryReadBytes(-1, out _));
        Assert.Equal(0, reader.Position);
    }

    private static ArrayBufferWriter<byte> WireWriterOf(bool bigEndian)
    {
        var output = new ArrayBufferWriter<byte>();
        var writer = bigEndian ? WireWriter.BigEndian(output) : WireWriter.LittleEndian(output);
        writer.WriteUInt16(0x0102);
        writer.WriteUInt32(0x01020304);
        writer.WriteUInt64(0x0102030405060708);
        writer.WriteInt32(-2);
        return output;
    }

    private static string Hex(ArrayBufferWriter<byte> output) => Convert.ToHexString(output.WrittenSpan);

    private static WireReader Reader(ReadOnlySpan<byte> bytes, bool bigEndian, long offset)
        => bigEndian ? WireReader.BigEndian(bytes, offset) : WireReader.LittleEndian(bytes, offset);

    private static byte[] Write(IEnumerable<Item> items, bool bigEndian)
    {
        var output = new ArrayBufferWriter<byte>();
        var writer = bigEndian ? WireWriter.BigEndian(output) : WireWriter.LittleEndian(output);
        foreach (var item in items)
        {
            switch (item.Width)
            {
                case 1: writer.WriteByte((byte)item.Value); break;
                case 2: writer.WriteUInt16((ushort)item.Value); break;
                case 4: writer.WriteUInt32((uint)item.Value); break;
                case 8: writer.WriteUInt64(item.Value); break;
                default: writer.WriteBytes(item.Bytes); break;
            }
        }

        return output.WrittenSpan.ToArray();
    }

    private static ulong Read(ref WireReader reader, Item item, out byte[] bytes)
    {
        bytes = [];
        switch (item.Width)
        {
            case 1: return reader.ReadByte("thing");
            case 2: return reader.ReadUInt16("thing");
            case 4: return reader.ReadUInt32("thing");
            case 8: return reader.ReadUInt64("thing");
            default:
                bytes = reader.ReadBytes(item.Bytes.Length, "thing").ToArray();
                return 0;
        }
    }

    private static bool TryRead(ref WireReader reader, Item item) => item.Width switch
    {
        1 => reader.TryReadByte(out _),
        2 => reader.TryReadUInt16(out _),
        4 => reader.TryReadUInt32(out _),
        8 => reader.TryReadUInt64(out _),
        _ => reader.TryReadBytes(item.Bytes.Length, out _),
    };

    private sealed record Item(int Width, ulong Value, byte[] Bytes)
    {
        internal int Size => Width == 0 ? Bytes.Length : Width;
    }
}
