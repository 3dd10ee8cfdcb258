using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.Tests.Streams;

public class DeviceFieldTests
{
    [Fact]
    public void Virtio_status_and_features_have_names()
    {
        var device = Assert.Single(MigrationStreams.GetDevices(Input("small.stream"), "*vhost-user-fs"));
        var virtio = Find(device.Fields, f => f.Type == "virtio");
        Assert.NotNull(virtio);
        Assert.Contains("DRIVER_OK", virtio["status"]!.Meaning, StringComparison.Ordinal);
        Assert.Contains("VERSION_1", virtio["guest_features"]!.Meaning, StringComparison.Ordinal);
        Assert.Contains(virtio.Fields, f => f.Name == "queue[0]");
    }

    [Fact]
    public void A_back_end_s_state_shows_as_its_chunks()
    {
        var device = Assert.Single(MigrationStreams.GetDevices(Input("small.stream"), "*vhost-user-fs"));
        var chunk = Assert.Single(device["vhost-user-fs-backend"]!["back-end"]!.Fields);
        Assert.Equal(("chunk[0]", "state", 108L), (chunk.Name, chunk.Type, chunk.Size));
        Assert.Equal(Convert.ToHexStringLower(StreamVectors.Read("small.backend-state.bin")), chunk.Value);
    }

    [Fact]
    public void A_pattern_names_devices_by_idstr_or_layout()
    {
        Assert.Single(MigrationStreams.GetDevices(Input("none-tcg.plain.stream"), "TIMER"));
        Assert.Equal(StreamError.NotFound, Assert.Throws<StreamException>(() => MigrationStreams.GetDevices(Input("none-tcg.plain.stream"), "nothing*")).Reason);
    }

    [Fact]
    public void Values_have_their_type_and_place()
    {
        var timer = Assert.Single(MigrationStreams.GetDevices(Input("none-tcg.plain.stream"), "timer"));
        Assert.Equal(0x183856efaL, timer.Fields.Single(f => f.Name == "cpu_ticks_offset").Value);
        Assert.Equal("0000000000000000", timer.Fields.Single(f => f.Name == "unused").Value);
        Assert.Equal(timer.Offset, timer.Fields[0].Offset);
        Assert.Equal(timer.Length, timer.Fields.Sum(f => f.Size));
    }

    [Fact]
    public void A_stream_compared_with_itself_has_no_difference_and_with_another_machine_has()
    {
        Assert.Empty(MigrationStreams.Compare(Input("microvm-tcg.plain.stream"), Input("microvm-tcg.plain.stream"), values: true));
        var found = MigrationStreams.Compare(Input("microvm-tcg.plain.stream"), Input("q35-kvm.ignore-shared.stream"), values: false);
        Assert.Contains(found, d => d is { Severity: "Error", Field: "machine type" });
        Assert.Contains(found, d => d is { Severity: "Error", Device: "configuration", Field: "capabilities" });
    }

    private static MigrationStreamField? Find(MigrationStreamField[] fields, Func<MigrationStreamField, bool> wanted)
        => fields.FirstOrDefault(wanted) ?? fields.Select(f => Find(f.Fields, wanted)).FirstOrDefault(f => f is not null);

    private static MigrationStreamInput Input(string name) => new() { Path = StreamVectors.PathOf(name) };
}
