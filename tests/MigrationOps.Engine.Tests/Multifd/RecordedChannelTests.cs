using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Tests.Vfio;

namespace MigrationOps.Engine.Tests.Multifd;

/// <summary>Channels that a real QEMU wrote, without device state.</summary>
public class RecordedChannelTests
{
    [Theory]
    [InlineData("plain", PacketFlags.None)]
    [InlineData("zlib", PacketFlags.Zlib)]
    internal void RAM_is_counted_and_passed_over(string name, PacketFlags compression)
    {
        var migration = Reception.Run(Load(name).Select(bytes => new MemoryStream(bytes, writable: false))).Migration;
        Assert.Equal(compression, migration.Compression);
        Assert.Equal([0, 1], migration.Channels.Select(c => c.Id));
        // 64 MiB of RAM and the blocks of a q35 machine, each page once or more.
        Assert.InRange(migration.Channels.Sum(c => c.NormalPages + c.ZeroPages), 16384, 20000);
        Assert.Single(migration.Channels.Select(c => c.SyncPackets).Distinct());
        Assert.Equal("pc-q35-10.0", migration.Machine);
        Assert.Empty(migration.Warnings);
    }

    [Fact]
    public void Plain_pages_take_their_size_in_the_channel()
    {
        var migration = Reception.Run(Load("plain").Select(bytes => new MemoryStream(bytes, writable: false))).Migration;
        Assert.All(migration.Channels, c => Assert.Equal(64 + c.RamPackets * 1344 + c.NormalPages * 4096, c.Bytes));
    }

    private static byte[][] Load(string name) => [.. Enumerable.Range(0, 3).Select(i => File.ReadAllBytes(
        Path.Combine(AppContext.BaseDirectory, "Vectors", "multifd", $"{name}-2ch.ch{i}.bin")))];
}
