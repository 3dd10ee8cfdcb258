using FsCheck.Fluent;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.Engine.Tests.Vfio;

public class CaptureTests
{
    public static TheoryData<string, string> MultifdDevices { get; } = new()
    {
        { Capture.OneDevice, "0000:00:04.0/vfio" },
        { Capture.ConfigFirst, "0000:00:04.0/vfio" },
        { Capture.TwoDevices, "0000:00:04.0/vfio" },
        { Capture.TwoDevices, "0000:00:05.0/vfio" },
    };

    [Theory]
    [MemberData(nameof(MultifdDevices))]
    public void A_devices_state_is_its_precopy_data_and_then_its_packets_by_index(string name, string idStr)
    {
        var capture = new Capture(name);
        var (summary, data, config) = Reception.Run(capture.Streams()).Devices.Single(d => d.Summary.IdStr == idStr);

        byte[] precopy = capture.MainData(idStr);
        var packets = capture.Packets(idStr);
        Assert.NotEmpty(precopy);
        Assert.Equal([.. precopy, .. packets.Where(p => !p.IsConfig).SelectMany(p => p.Data)], data);
        Assert.Equal(packets.Single(p => p.IsConfig).Data, config);
        Assert.Equal(packets.Count, summary.Packets);
        Assert.Equal(data.Length, summary.Bytes);
        Assert.Equal(precopy.Length, summary.PrecopyBytes);
        Assert.Equal(4132, summary.ConfigBytes);
        Assert.Empty(summary.Warnings);
    }

    [Fact]
    public void A_device_without_multifd_has_all_its_state_in_the_main_stream()
    {
        var capture = new Capture(Capture.Classic);
        var (summary, data, config) = Assert.Single(Reception.Run(capture.Streams()).Devices);
        Assert.Equal(capture.MainData("0000:00:04.0/vfio"), data);
        Assert.Equal(60, data.Length);
        Assert.Equal(24, summary.PrecopyBytes);
        Assert.Equal(4132, config.Length);
        Assert.Equal(0, summary.Packets);
    }

    [Fact]
    public void Channels_are_told_by_their_id_and_not_by_their_order()
    {
        var migration = Reception.Run(new Capture(Capture.ConfigFirst).Streams().Reverse()).Migration;
        Assert.Equal([0, 1], migration.Channels.Select(c => c.Id));
        Assert.Equal([253764, 308484], migration.Channels.Select(c => c.Bytes));
        Assert.Equal([27, 22], migration.Channels.Select(c => c.RamPackets));
        Assert.All(migration.Channels, c => Assert.Equal(5, c.SyncPackets));
        Assert.Equal("pc-i440fx-10.0", migration.Machine);
        Assert.Equal(112589, migration.MainBytes);
    }

    [Fact]
    public void Any_split_of_the_bytes_into_reads_gives_the_same_state()
    {
        var capture = new Capture(Capture.OneDevice);
        var expected = Assert.Single(Reception.Run(capture.Streams()).Devices);
        Property.Holds(Gen.Zip(Gen.Choose(0, int.MaxValue), Gen.Elements(1, 2, 7, 100, 5000)), split =>
        {
            var (seed, largest) = split;
            var streams = capture.Channels.Prepend(capture.Main).Select((bytes, i) => new ChoppyStream(bytes, seed ^ i, largest));
            var actual = Assert.Single(Reception.Run(streams).Devices);
            Assert.Equal(expected.Data, actual.Data);
            Assert.Equal(expected.Config, actual.Config);
        }, tries: 20);
    }

    [Theory]
    [InlineData(1 << 30)]
    [InlineData(200_000)]
    [InlineData(20_000)]
    public void A_small_budget_changes_where_packets_wait_and_not_what_is_delivered(long budget)
    {
        using var folder = new TestFolder();
        var capture = new Capture(Capture.TwoDevices);
        using var ended = new CountdownEvent(capture.Channels.Count);
        // The pre-copy part comes last, so that everything has to wait for it.
        IEnumerable<Stream> streams =
            [.. capture.Channels.Select(bytes => new AnnouncingStream(bytes, ended)), new LastStream(capture.Main, ended)];
        var received = Reception.Run(streams, new ReassemblyOptions { MemoryBudget = budget, SpillDirectory = folder.Path });
        foreach (var (summary, data, _) in received.Devices)
        {
            byte[] expected = [.. capture.MainData(summary.IdStr),
                .. capture.Packets(summary.IdStr).Where(p => !p.IsConfig).SelectMany(p => p.Data)];
            Assert.Equal(expected, data);
        }

        Assert.Equal(budget < 3_000_000, received.Devices.Sum(d => d.Summary.SpilledBytes) > 0);
        Assert.Empty(Directory.GetFileSystemEntries(folder.Path));
    }
}
