using System.Security.Cryptography;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Streams;

/// <summary>The VM state of qcow2 snapshots, against the stream that the same stopped VM migrates to a file.</summary>
public sealed class Qcow2Tests : IDisposable
{
    private readonly StreamLab _lab = new();

    public void Dispose() => _lab.Dispose();

    [Theory]
    [InlineData("cluster_size=512", 8)]
    [InlineData("cluster_size=64k", 100)]
    [InlineData("cluster_size=2M", 100)]
    [InlineData("compat=0.10", 8)]
    [InlineData("cluster_size=64k,extended_l2=on", 8)]
    [InlineData("cluster_size=2M,extended_l2=on", 1000)]
    [InlineData("cluster_size=16k,extended_l2=on,lazy_refcounts=on", 3)]
    public void The_state_of_a_snapshot_is_the_stream_that_the_vm_migrates(string options, int megabytes)
    {
        string disk = Create("disk.qcow2", options, $"{megabytes}M");
        using var qemu = Boot(disk);
        qemu.Command("stop");
        Monitor(qemu, "savevm one");
        string stream = _lab.Save(qemu, "vm.stream");
        // QEMU still holds the image, and its lock.
        AssertSame(stream, new MigrationStreamInput { Path = disk });
        AssertSame(stream, new MigrationStreamInput { Path = disk, Snapshot = "one" });
        Assert.True(MigrationStreams.Test(new MigrationStreamInput { Path = disk }).Passed);
    }

    [Fact]
    public void A_disk_that_was_resized_since_keeps_the_place_of_the_state()
    {
        string disk = Create("disk.qcow2", "cluster_size=64k", "8M");
        string stream;
        using (var qemu = Boot(disk))
        {
            qemu.Command("stop");
            Monitor(qemu, "savevm one");
            stream = _lab.Save(qemu, "vm.stream");
        }

        Run("qemu-img", "resize", disk, "9G");
        AssertSame(stream, new MigrationStreamInput { Path = disk });
        Assert.Equal(8 << 20, Assert.Single(MigrationStreams.GetSnapshots(new MigrationStreamInput { Path = disk })!).DiskSize);
    }

    [Fact]
    public void Of_several_states_the_named_one_is_read()
    {
        string disk = Create("disk.qcow2", "cluster_size=64k", "8M");
        using (var qemu = Boot(disk))
        {
            qemu.Command("stop");
            Monitor(qemu, "savevm one");
            Monitor(qemu, "savevm \"two words\"");
        }

        Run("qemu-img", "snapshot", "-c", "disk only", disk);
        var list = MigrationStreams.GetSnapshots(new MigrationStreamInput { Path = disk })!;
        Assert.Equal(["one", "two words", "disk only"], list.Select(s => s.Snapshot));
        Assert.Equal([true, true, false], list.Select(s => s.StateSize > 0));
        Assert.All(list, s => Assert.InRange(s.Date, DateTime.Now.AddMinutes(-5), DateTime.Now.AddSeconds(1)));
        var several = Assert.Throws<StreamException>(() => MigrationStreams.GetInfo(new MigrationStreamInput { Path = disk }));
        Assert.Equal(StreamError.NotFound, several.Reason);
        Assert.Contains("'one'", several.Message);
        Assert.True(MigrationStreams.GetInfo(new MigrationStreamInput { Path = disk, Snapshot = "two words" }).Complete);
        Assert.True(MigrationStreams.GetInfo(new MigrationStreamInput { Path = disk, Snapshot = list[0].Id }).Complete);
        var none = Assert.Throws<StreamException>(() => MigrationStreams.GetInfo(new MigrationStreamInput { Path = disk, Snapshot = "disk only" }));
        Assert.Contains("no VM state", none.Message);
        Assert.Contains("another disk", none.RecommendedAction);
        var absent = Assert.Throws<StreamException>(() => MigrationStreams.GetInfo(new MigrationStreamInput { Path = disk, Snapshot = "three" }));
        Assert.Contains("no snapshot 'three'", absent.Message);
    }

    [Fact]
    public void The_state_is_in_one_of_the_vm_s_disks_and_the_others_say_so()
    {
        string first = Create("a.qcow2", "cluster_size=64k", "8M");
        string second = Create("b.qcow2", "cluster_size=64k", "8M");
        using (var qemu = Boot(first, "-drive", $"file={second},format=qcow2,if=none,id=second", "-device", "virtio-blk-pci,drive=second"))
        {
            qemu.Command("stop");
            Monitor(qemu, "savevm one");
        }

        var withState = new[] { first, second }.Where(d => MigrationStreams.GetSnapshots(new MigrationStreamInput { Path = d })![0].StateSize > 0);
        Assert.Equal([first], withState);
        var e = Assert.Throws<StreamException>(() => MigrationStreams.GetInfo(new MigrationStreamInput { Path = second }));
        Assert.Contains("another disk", e.RecommendedAction);
    }

    [Fact]
    public void Encrypted_images_and_images_with_an_external_data_file_are_refused_by_name()
    {
        string encrypted = _lab.Folder.File("luks.qcow2");
        Run("qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=abcdef",
            "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", encrypted, "8M");
        string external = Create("external.qcow2", $"data_file={_lab.Folder.File("data.raw")}", "8M");
        foreach (var (path, words) in new[] { (encrypted, "encrypted qcow2 image (LUKS)"), (external, "external data file") })
        {
            var e = Assert.Throws<StreamException>(() => MigrationStreams.GetInfo(new MigrationStreamInput { Path = path }));
            Assert.Equal(StreamError.NotSupported, e.Reason);
            Assert.Contains(words, e.Message);
        }
    }

    // Its clock stands when it does: two saves within different seconds are the same.
    private QemuProcess Boot(string disk, params string[] more)
        => _lab.Boot("q35", ["-rtc", "clock=vm", "-drive", $"file={disk},format=qcow2,if=none,id=state", "-device", "virtio-blk-pci,drive=state", .. more]);

    private string Create(string name, string options, string size)
    {
        string path = _lab.Folder.File(name);
        Run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, size);
        return path;
    }

    private static void Run(string program, params string[] arguments)
    {
        using var process = new PeerProcess(Peers.Require(program), arguments);
        Assert.True(process.WaitForExit() == 0, process.Output);
    }

    private static void Monitor(QemuProcess qemu, string line)
        => Assert.Equal("", (string)qemu.Command("human-monitor-command", new JsonObject { ["command-line"] = line })!);

    private void AssertSame(string stream, MigrationStreamInput state)
    {
        var plain = new MigrationStreamInput { Path = stream };
        Assert.Equal(Devices(plain), Devices(state));
        Assert.Equal(Ram(plain), Ram(state));
    }

    // The run state differs: savevm stops the VM in a way of its own.
    private static List<string> Devices(MigrationStreamInput input)
    {
        var found = new List<string>();
        foreach (var device in MigrationStreams.GetDevices(input, "*").Where(d => d.IdStr != "globalstate"))
        {
            found.Add($"{device.IdStr} {device.InstanceId} {device.Version}");
            found.AddRange(device.Fields.Select(f => $"  {f.Name} {f.Type} {f.Value}"));
        }

        Assert.True(found.Count > 100, $"{found.Count} lines");
        return found;
    }

    private string Ram(MigrationStreamInput input)
    {
        string folder = Path.Combine(_lab.Folder.Path, Guid.NewGuid().ToString("N"));
        Directory.CreateDirectory(folder);
        using var scope = new TransferScope(TimeSpan.FromSeconds(30));
        var export = RamExporter.Export(new RamExportOptions { Input = input, Block = "pc.ram", Destination = folder }, scope);
        using var file = File.OpenRead(export.Path);
        return Convert.ToHexString(SHA256.HashData(file));
    }
}
