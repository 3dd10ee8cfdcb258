using System.Buffers.Binary;
using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Streams;

/// <summary>Images made by hand, one cluster a table, for what qemu-img does not write.</summary>
public sealed class Qcow2ImageTests : IDisposable
{
    private const int Cluster = 512;
    private const int SnapshotTable = 1 * Cluster;
    private const int L1 = 2 * Cluster;
    private const int L2 = 3 * Cluster;
    private const int Data = 4 * Cluster;

    private readonly TestFolder _folder = new();
    private readonly byte[] _image = MakeImage();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Bytes_that_have_no_cluster_are_zeros()
    {
        byte[] state = ReadState();
        Assert.Equal(Enumerable.Repeat((byte)7, Cluster), state.Take(Cluster));
        Assert.Equal(new byte[Cluster + 100], state.Skip(Cluster));
    }

    [Fact]
    public void A_cluster_with_the_zero_flag_is_zeros_whatever_lies_there()
    {
        Put(L2, Data | 1);
        Assert.Equal(new byte[(2 * Cluster) + 100], ReadState());
    }

    [Fact]
    public void A_compressed_cluster_is_refused_by_name()
    {
        Put(L2, 1ul << 62 | Data);
        var e = Assert.Throws<StreamException>(ReadState);
        Assert.Equal(StreamError.NotSupported, e.Reason);
        Assert.Contains("compressed cluster at byte 0 of the state", e.Message);
    }

    [Fact]
    public void An_L1_table_that_is_too_short_for_the_state_is_named()
    {
        BinaryPrimitives.WriteUInt32BigEndian(_image.AsSpan(SnapshotTable + 8), 2);
        var e = Assert.Throws<StreamException>(ReadState);
        Assert.Equal(StreamError.InvalidImage, e.Reason);
        Assert.Contains("has 2 entries, expected 3", e.Message);
    }

    [Theory]
    [InlineData(4, 4, StreamError.UnsupportedVersion)]
    [InlineData(20, 8, StreamError.InvalidImage)]
    [InlineData(20, 22, StreamError.InvalidImage)]
    [InlineData(60, 65537, StreamError.InvalidImage)]
    [InlineData(76, 32, StreamError.NotSupported)]
    [InlineData(76, 4, StreamError.NotSupported)]
    [InlineData(32, 1, StreamError.NotSupported)]
    [InlineData(SnapshotTable + 8, 0x7fffffff, StreamError.InvalidImage)]
    [InlineData(SnapshotTable + 36, 1025, StreamError.InvalidImage)]
    public void A_field_out_of_range_has_a_name(int offset, int value, StreamError expected)
    {
        BinaryPrimitives.WriteInt32BigEndian(_image.AsSpan(offset), value);
        Assert.Equal(expected, Assert.Throws<StreamException>(ReadState).Reason);
    }

    [Fact]
    public void An_image_that_ends_anywhere_ends_with_a_named_failure()
    {
        for (int length = 4; length < Data + Cluster; length++)
        {
            var e = Record.Exception(() => ReadState(_image[..length]));
            Assert.True(e is StreamException { Reason: StreamError.Truncated or StreamError.NotFound }, $"{length}: {e}");
        }
    }

    [Fact]
    public void A_snapshot_that_goes_while_its_state_is_read_is_noticed()
    {
        string path = Write(_image);
        using var image = Qcow2Image.TryOpen(path, 0)!;
        using var state = image.OpenState(image.Choose(null));
        Assert.True(state.Read(new byte[10]) > 0);
        Put(SnapshotTable, 5 * Cluster);
        Write(_image);
        var e = Assert.Throws<StreamException>(() => state.CopyTo(Stream.Null));
        Assert.Contains("changed while the state was read", e.Message);
    }

    [Fact]
    public void A_file_of_another_kind_is_no_image()
        => Assert.Null(Qcow2Image.TryOpen(Write([.. "QEVM"u8, 0, 0, 0, 3]), 0));

    // A disk of one byte, so that the state begins at L1 entry 1; 1,124 bytes of state in two clusters' and a half's place.
    private static byte[] MakeImage()
    {
        byte[] image = new byte[Data + Cluster];
        var b = image.AsSpan();
        BinaryPrimitives.WriteUInt32BigEndian(b, 0x514649fb);
        BinaryPrimitives.WriteUInt32BigEndian(b[4..], 3);
        BinaryPrimitives.WriteUInt32BigEndian(b[20..], 9);
        BinaryPrimitives.WriteUInt64BigEndian(b[24..], 1ul << 40);
        BinaryPrimitives.WriteUInt32BigEndian(b[60..], 1);
        BinaryPrimitives.WriteUInt64BigEndian(b[64..], SnapshotTable);

        var s = b[SnapshotTable..];
        BinaryPrimitives.WriteUInt64BigEndian(s, L1);
        BinaryPrimitives.WriteUInt32BigEndian(s[8..], 3);
        BinaryPrimitives.WriteUInt16BigEndian(s[12..], 1);
        BinaryPrimitives.WriteUInt16BigEndian(s[14..], 3);
        BinaryPrimitives.WriteUInt32BigEndian(s[36..], 24);
        BinaryPrimitives.WriteUInt64BigEndian(s[40..], (2 * Cluster) + 100);
        BinaryPrimitives.WriteUInt64BigEndian(s[48..], 64 * Cluster * 2);
        Encoding.ASCII.GetBytes("1one", s[64..]);

        BinaryPrimitives.WriteUInt64BigEndian(b[(L1 + 16)..], L2 | 1ul << 63);
        BinaryPrimitives.WriteUInt64BigEndian(b[L2..], Data | 1ul << 63);
        b[Data..].Fill(7);
        return image;
    }

    private void Put(int offset, ulong value) => BinaryPrimitives.WriteUInt64BigEndian(_image.AsSpan(offset), value);

    private byte[] ReadState() => ReadState(_image);

    private byte[] ReadState(byte[] bytes)
    {
        using var image = Qcow2Image.TryOpen(Write(bytes), 0)!;
        image.Header.ThrowIfUnreadable(image.Name);
        using var state = image.OpenState(image.Choose(null));
        var all = new MemoryStream();
        state.CopyTo(all);
        return all.ToArray();
    }

    private string Write(byte[] bytes)
    {
        string path = _folder["disk.qcow2"];
        File.WriteAllBytes(path, bytes);
        return path;
    }
}
