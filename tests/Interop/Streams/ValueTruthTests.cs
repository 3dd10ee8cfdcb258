using MigrationOps.Engine.Streams;
using static MigrationOps.Interop.Tests.Streams.LoadTruth;

namespace MigrationOps.Interop.Tests.Streams;

/// <summary>Test's verdict on values that QEMU looks at when it loads, against a QEMU that loads the same bytes.</summary>
public sealed class ValueTruthTests : IDisposable
{
    private readonly StreamLab _lab = new();

    public void Dispose() => _lab.Dispose();

    [Theory]
    [InlineData("debug")]
    [InlineData("inmigrate")]
    [InlineData("internal-error")]
    [InlineData("io-error")]
    [InlineData("paused")]
    [InlineData("postmigrate")]
    [InlineData("prelaunch")]
    [InlineData("finish-migrate")]
    [InlineData("restore-vm")]
    [InlineData("running")]
    [InlineData("save-vm")]
    [InlineData("shutdown")]
    [InlineData("suspended")]
    [InlineData("watchdog")]
    [InlineData("guest-panicked")]
    [InlineData("colo")]
    [InlineData("preconfig")]
    [InlineData("invalid")]
    [InlineData("")]
    public void A_run_state_passes_if_and_only_if_qemu_takes_it(string state)
    {
        string stream = Save("none");
        var field = Device(stream, "globalstate")["runstate"]!;
        byte[] bytes = File.ReadAllBytes(stream);
        bytes.AsSpan((int)field.Offset, 100).Clear();
        System.Text.Encoding.ASCII.GetBytes(state, bytes.AsSpan((int)field.Offset));
        string edited = _lab.Folder.File("edited.stream");
        File.WriteAllBytes(edited, bytes);

        var (loaded, output) = Load(_lab, edited, "none");
        var failed = Failed(edited);
        Assert.True(loaded == (failed.Length == 0), $"QEMU {(loaded ? "took" : "refused")} it: {output}\n{string.Join('\n', failed.Select(c => c.ToString()))}");
        Assert.All(failed, c => Assert.Equal("RunState", c.Name));
        Assert.Equal(state, Device(edited, "globalstate")["runstate"]!.Value);
    }

    [Theory]
    [InlineData("queue_sel", 1023, true)]
    [InlineData("queue_sel", 1024, false)]
    [InlineData("config_vector", 1, true)]
    [InlineData("config_vector", 2, false)]
    [InlineData("queue[0].vector", 1, true)]
    [InlineData("queue[0].vector", 2, false)]
    [InlineData("queue[0].last_avail_idx", 1, false)]
    [InlineData("queue[1].last_avail_idx", 7, false)]
    public void A_virtio_number_out_of_range_fails_if_and_only_if_qemu_refuses_it(string path, int value, bool loads)
    {
        string[] device = ["-device", "virtio-rng-pci,vectors=2,addr=5"];
        string stream = Save("q35", [.. device, "-device", "virtio-serial-pci,vectors=2,addr=6"]);
        var field = Field(stream, "0000:00:06.0/virtio-console", path);
        string edited = Patch(stream, _lab.Folder.File("edited.stream"), field, (ulong)value);

        var (loaded, output) = Load(_lab, edited, "q35", [.. device, "-device", "virtio-serial-pci,vectors=2,addr=6"]);
        var failed = Failed(edited);
        Assert.True(loaded == loads, $"QEMU {(loaded ? "took" : "refused")} it: {output}");
        Assert.True(loads == (failed.Length == 0), string.Join('\n', failed.Select(c => c.ToString())));
        Assert.All(failed, c => Assert.Equal("VirtQueues", c.Name));
    }

    [Theory]
    [InlineData("q35", 0)]
    [InlineData("pc", 0)]
    [InlineData("q35", 0, "-global", "virtio-blk-pci.disable-modern=on")]
    [InlineData("pc", 0, "-m", "5G")]
    [InlineData("q35", 0, "-m", "3G")]
    [InlineData("microvm", 0)]
    [InlineData("q35", 0x1000)]
    [InlineData("pc", 0x1000)]
    [InlineData("q35", 0x1000, "-global", "virtio-blk-pci.disable-modern=on")]
    [InlineData("q35", 0x1000, "-m", "3G")]
    [InlineData("pc", 0x1000, "-m", "5G")]
    [InlineData("microvm", 0x1000)]
    public void A_queue_s_index_is_held_against_the_guest_s_memory_as_qemu_does(string machine, int added, params string[] more)
    {
        // The firmware has read the boot sector from the disk, so that its rings are in use.
        string stream;
        using (var qemu = _lab.Boot(machine, more))
        {
            StreamLab.WaitForGuest(qemu);
            qemu.Command("stop");
            stream = _lab.Save(qemu, "vm.stream");
        }

        var field = Field(stream, machine == "microvm" ? "*virtio*" : "*virtio-blk", "queue[0].last_avail_idx");
        Assert.True(Convert.ToUInt64(field.Value, System.Globalization.CultureInfo.InvariantCulture) > 0, "The firmware did not use the disk.");
        string edited = Patch(stream, _lab.Folder.File("edited.stream"), field, (ushort)(Convert.ToUInt64(field.Value, System.Globalization.CultureInfo.InvariantCulture) + (ulong)added));

        var (_, output) = Load(_lab, edited, machine, more);
        var failed = Failed(edited);
        Assert.Equal(added != 0, output.Contains("inconsistent with Host index", StringComparison.Ordinal));
        Assert.Equal(added != 0 ? ["VirtQueues"] : [], failed.Select(c => c.Name));

        // The numbers are the ones that QEMU names.
        Assert.All(failed, c => Assert.Contains(c.Detail[(c.Detail.LastIndexOf("(VQ ", StringComparison.Ordinal) + 1)..^1], output, StringComparison.Ordinal));
    }

    private string Save(string machine, params string[] more)
    {
        using var qemu = _lab.Boot(machine, [.. more, "-S"]);
        return _lab.Save(qemu, "vm.stream");
    }

    private static MigrationStreamField Field(string stream, string device, string path)
    {
        var found = Device(stream, device)["virtio"]!;
        foreach (string name in path.Split('.'))
        {
            found = found[name] ?? throw new InvalidOperationException($"{device} has no {name}:\n{Device(stream, device).Tree}");
        }

        return found;
    }
}
