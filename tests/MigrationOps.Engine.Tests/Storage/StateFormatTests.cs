using FsCheck;
using FsCheck.Fluent;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;
using Property = MigrationOps.Engine.Tests.Support.Property;

namespace MigrationOps.Engine.Tests.Storage;

public class StateFormatTests
{
    private static readonly Gen<byte[]> Bytes = Gen.Choose(0, 40).SelectMany(
        count => Gen.Choose(0, int.MaxValue).Select(seed => States.RandomBytes(count, seed)));

    private static readonly Gen<byte[]> Containers =
        from pieces in Bytes.ListOf()
        from names in Gen.Elements("config", "a", "längerer Name", "x.y").ListOf()
        from content in Bytes
        from hash in Gen.Elements(true, false)
        select States.Container(pieces, names.Distinct().ToDictionary(name => name, _ => content), hash);

    [Fact]
    public void The_bytes_of_a_state_are_these_in_every_release()
    {
        byte[] written = States.Container([[1, 2, 3], [4]], new Dictionary<string, byte[]> { ["config"] = [9, 8] }, kind: DeviceStateKind.Vfio);
        string id = Convert.ToHexString(written, 16, 16);
        Assert.NotEqual(new string('0', 32), id);
        Assert.Equal(string.Concat(
            "4D4F505354415445", "0001", "0002", "00000000", id,
            "00000003", "010203", "00000001", "04", "00000000",
            "06", "736861323536", "00000020", "9F64A747E1B97F131FABB6B447296C9B6F0201E79FB3C5356E6C77E89B6A806A", "00000000",
            "06", "636F6E666967", "00000002", "0908", "00000000",
            "0C", "7368613235362D7061727473", "00000020", "2021AAC978C7559270495B98E4F2BA32E624C008BA41D97D2981A6AE84D3E027", "00000000",
            "00"), Convert.ToHexString(written));
    }

    [Fact]
    public void A_piece_of_more_than_a_mebibyte_becomes_several_chunks()
    {
        byte[] data = States.RandomBytes((2 << 20) + 5);
        byte[] written = States.Container([data], hash: false);
        Assert.Equal("00100000", Convert.ToHexString(written, 32, 4));
        Assert.Equal("00100000", Convert.ToHexString(written, 36 + (1 << 20), 4));
        Assert.Equal("00000005", Convert.ToHexString(written, 40 + (2 << 20), 4));
        using var reader = new StateReader(new MemoryStream(written), "m", raw: false, computeHash: true);
        reader.ReadHeader(null);
        using var copy = new MemoryStream();
        reader.CopyData(copy);
        Assert.Equal(3, reader.ReadRest(expectEnd: true).Chunks);
        Assert.Equal(data, copy.ToArray());
    }

    [Fact]
    public void Any_split_of_the_bytes_into_reads_gives_the_same_header_data_and_parts()
    {
        var inputs = Containers.SelectMany(bytes => Property.Splits(bytes.Length).Select(sizes => (bytes, sizes)));
        Property.Holds(inputs, input =>
            Assert.Equal(ReadAll(new MemoryStream(input.bytes)), ReadAll(new SplitStream(input.bytes, input.sizes))));
    }

    [Fact]
    public void A_reader_finds_what_the_writer_wrote_whatever_the_reads_return()
    {
        var inputs = from data in Bytes
                     from config in Bytes
                     from sizes in Property.Splits(16)
                     select (data, config, sizes);
        Property.Holds(inputs, input =>
        {
            byte[] written = States.Container([input.data], new Dictionary<string, byte[]> { ["config"] = input.config });
            using var source = new SplitStream(written, input.sizes);
            using var reader = new StateReader(source, "m", raw: false, computeHash: true);
            reader.ReadHeader(DeviceStateKind.VhostUser);
            using var copy = new MemoryStream();
            reader.CopyData(copy);
            var digest = reader.ReadRest(expectEnd: true);
            Assert.Equal(input.data, copy.ToArray());
            Assert.Equal(input.config, reader.Parts["config"]);
            Assert.Equal(digest.Sha256, reader.StatedSha256);
            Assert.Equal(input.data.Length, digest.Bytes);
        });
    }

    [Fact]
    public void A_huge_announced_length_allocates_nothing()
    {
        byte[] header = States.Container([], hash: false)[..32];
        byte[] written = [.. header, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        using var reader = new StateReader(new MemoryStream(written), "m", raw: false, computeHash: false);
        long before = GC.GetAllocatedBytesForCurrentThread();
        reader.ReadHeader(null);
        var e = Assert.Throws<StateFileException>(() => reader.CopyData(Stream.Null));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 64 << 10);
        Assert.Contains("chunk 1 at byte 32 announces 4,294,967,295 bytes, 3 follow", e.Message);
    }

    [Fact]
    public void A_head_that_is_not_whole_is_left_where_it_is()
    {
        byte[] header = States.Container([], hash: false)[..32];
        byte[] part = [3, .. "abc"u8];
        for (int length = 0; length <= header.Length; length++)
        {
            var reader = WireReader.BigEndian(header.AsSpan(0, length), source: "m");
            Assert.Equal(length == header.Length, StateHeader.TryRead(ref reader, out _));
            Assert.Equal(length == header.Length ? length : 0, reader.Position);
        }

        for (int length = 0; length <= part.Length; length++)
        {
            var reader = WireReader.BigEndian(part.AsSpan(0, length));
            Assert.Equal(length == part.Length, StatePart.TryRead(ref reader, out var read));
            Assert.Equal(length == part.Length ? (length, "abc") : (0, null), (reader.Position, read.Name));
            Assert.Equal(length == 0 ? 1 : 4, StatePart.CountBytes(part.AsSpan(0, length)));
        }
    }

    [Fact]
    public void A_long_state_passes_through_a_bounded_memory()
    {
        using var source = new EndlessChunks(96L << 20);
        long before = GC.GetAllocatedBytesForCurrentThread();
        using var reader = new StateReader(source, "m", raw: false, computeHash: false);
        reader.ReadHeader(null);
        reader.CopyData(Stream.Null);
        Assert.Equal(96L << 20, reader.ReadRest(expectEnd: true).Bytes);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 2 << 20);
    }

    [Fact]
    public void Parts_beyond_their_limit_are_refused_and_not_kept()
    {
        byte[] head = [.. States.Container([], hash: false)[..^1], 1, (byte)'p', 0xff, 0xff, 0xff, 0xff];
        using var source = new EndlessTail(head);
        long before = GC.GetAllocatedBytesForCurrentThread();
        var e = ReadFailure(source);
        Assert.Equal(StateFileError.Malformed, e.Reason);
        Assert.Contains("16,777,216", e.Message);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 80 << 20);
        Assert.InRange(source.Given, 1, 17 << 20);
    }

    [Fact]
    public void A_part_that_comes_twice_and_too_many_parts_are_refused()
    {
        byte[] head = States.Container([], hash: false)[..^1];
        byte[] part = [1, (byte)'p', 0, 0, 0, 0];
        Assert.Equal(StateFileError.Malformed, ReadFailure(new MemoryStream([.. head, .. part, .. part, 0])).Reason);
        byte[] many = [.. head, .. Enumerable.Range(0, 65).SelectMany(i => (byte[])[1, (byte)(i + 1), 0, 0, 0, 0]), 0];
        Assert.Equal(StateFileError.Malformed, ReadFailure(new MemoryStream(many)).Reason);
    }

    [Fact]
    public void A_connection_may_go_on_after_the_end_mark_and_a_file_may_not()
    {
        byte[] written = [.. States.Container([[1, 2]]), 42];
        foreach (bool expectEnd in new[] { false, true })
        {
            using var source = new MemoryStream(written);
            using var reader = new StateReader(source, "m", raw: false, computeHash: false);
            reader.ReadHeader(null);
            reader.CopyData(Stream.Null);
            var e = Record.Exception(() => reader.ReadRest(expectEnd)) as StateFileException;
            Assert.Equal(expectEnd ? StateFileError.TrailingBytes : null, e?.Reason);
            Assert.Equal(expectEnd ? written.Length - 1 : null, e?.ByteOffset);
        }
    }

    [Fact]
    public void A_writer_keeps_its_order()
    {
        using var output = new MemoryStream();
        using var writer = new StateWriter(output, DeviceStateKind.VhostUser, raw: false, computeHash: true);
        writer.WriteData([1]);
        var digest = writer.EndData();
        Assert.Throws<InvalidOperationException>(() => writer.WriteData([2]));
        Assert.Equal(digest, writer.EndData());
        Assert.Equal(digest, writer.Complete());
        using var bare = new StateWriter(output, DeviceStateKind.VhostUser, raw: true, computeHash: false);
        Assert.Equal(StateFileError.RawNotAllowed,
            Assert.Throws<StateFileException>(() => bare.WritePart("config", [1])).Reason);
    }

    private static StateFileException ReadFailure(Stream source)
    {
        using (source)
        {
            using var reader = new StateReader(source, "m", raw: false, computeHash: false);
            reader.ReadHeader(null);
            reader.CopyData(Stream.Null);
            return Assert.Throws<StateFileException>(() => reader.ReadRest(expectEnd: true));
        }
    }

    private static string ReadAll(Stream source)
    {
        using var reader = new StateReader(source, "m", raw: false, computeHash: true);
        reader.ReadHeader(null);
        using var data = new MemoryStream();
        reader.CopyData(data);
        var digest = reader.ReadRest(expectEnd: true);
        return $"{reader.Header} {Convert.ToHexString(data.ToArray())} {string.Join(' ', reader.Parts.Select(p => $"{p.Key}={Convert.ToHexString(p.Value)}"))} {digest}";
    }

    private sealed class SplitStream(byte[] content, int[] sizes) : MemoryStream(content)
    {
        private int _turn;

        public override int Read(byte[] buffer, int offset, int count)
            => base.Read(buffer, offset, Math.Min(count, sizes[_turn++ % sizes.Length]));
    }

    /// <summary>A state of chunks of 1 MiB that is made while it is read.</summary>
    private sealed class EndlessChunks(long size) : MemoryStream
    {
        private readonly byte[] _head = States.Container([], hash: false)[..32];
        private readonly byte[] _chunk = [0, 0x10, 0, 0, .. new byte[1 << 20]];
        private readonly byte[] _end = [0, 0, 0, 0, 0];
        private long _position;

        public override int Read(byte[] buffer, int offset, int count)
        {
            long chunks = size / (1 << 20) * _chunk.Length;
            var (source, at) = _position < _head.Length ? (_head, _position)
                : _position < _head.Length + chunks ? (_chunk, (_position - _head.Length) % _chunk.Length)
                : (_end, _position - _head.Length - chunks);
            int take = (int)Math.Min(count, source.Length - at);
            Array.Copy(source, at, buffer, offset, take);
            _position += take;
            return take;
        }
    }

    private sealed class EndlessTail(byte[] head) : MemoryStream
    {
        private readonly MemoryStream _head = new(head);

        internal long Given { get; private set; }

        public override int Read(byte[] buffer, int offset, int count)
        {
            int read = _head.Read(buffer, offset, count);
            read = read > 0 ? read : count;
            Given += read;
            return read;
        }
    }
}
