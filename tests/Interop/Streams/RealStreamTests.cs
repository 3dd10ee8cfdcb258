using System.Text.Json.Nodes;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Streams;

public sealed class RealStreamTests : IDisposable
{
    private readonly StreamLab _lab = new();

    public void Dispose() => _lab.Dispose();

    [Theory]
    [InlineData("pc")]
    [InlineData("q35")]
    [InlineData("q35", "-device", "virtio-net-pci", "-device", "virtio-serial-pci", "-device", "virtio-balloon-pci", "-device", "qemu-xhci", "-device", "VGA")]
    [InlineData("pc", "-device", "e1000", "-audiodev", "none,id=a", "-device", "AC97,audiodev=a", "-device", "piix3-usb-uhci,id=u", "-device", "usb-tablet", "-device", "intel-hda", "-device", "hda-duplex,audiodev=a", "-serial", "null", "-smp", "2")]
    [InlineData("microvm", "-device", "virtio-net-device", "-device", "virtio-rng-device")]
    [InlineData("virt", "-device", "virtio-net-pci", "-device", "virtio-rng-pci")]
    [InlineData("virt-9.0", "-smp", "2")]
    [InlineData("none")]
    [InlineData("q35", "-m", "32M,maxmem=512M", "-object", "memory-backend-ram,id=vm0,size=64M", "-device", "virtio-mem-pci,memdev=vm0")]
    public void A_plain_stream_reads_as_qemu_s_own_script_reads_it(string machine, params string[] devices)
    {
        using var qemu = _lab.Boot(machine, devices);
        string path = _lab.Save(qemu, "vm.stream");
        AssertSameAsScript(path);
        AssertWhole(path);
    }

    [Fact]
    public void Ignored_shared_memory_reads_as_the_script_reads_it()
    {
        using var qemu = _lab.Boot("q35,memory-backend=m0", "-object", $"memory-backend-file,id=m0,size=32M,share=on,mem-path={_lab.Folder.File("ram")}");
        qemu.SetCapability("x-ignore-shared");
        string path = _lab.Save(qemu, "vm.stream");
        AssertSameAsScript(path);
        var info = AssertWhole(path);
        Assert.Equal(["x-ignore-shared"], info.Capabilities);
        Assert.Contains(info.RamBlocks, b => b is { Name: "m0", NormalPages: 0, ZeroPages: 0, Address: not null });
    }

    [Fact]
    public void The_vm_s_uuid_is_told_where_the_stream_has_it()
    {
        using var qemu = _lab.Boot("q35", "-uuid", "11112222-3333-4444-5555-666677778888");
        qemu.SetCapability("validate-uuid");
        var info = AssertWhole(_lab.Save(qemu, "vm.stream"));
        Assert.Equal(Guid.Parse("11112222-3333-4444-5555-666677778888"), info.Uuid);
    }

    [Fact]
    public void A_stream_at_an_offset_is_found_there()
    {
        using var qemu = _lab.Boot("q35");
        string path = _lab.Save(qemu, "vm.stream", ",offset=0x3000");
        var info = AssertWhole(path, 0x3000);
        Assert.StartsWith("pc-q35-", info.MachineType, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false, 0)]
    [InlineData(true, 0)]
    [InlineData(true, 0x11000)]
    public void A_mapped_ram_file_is_walked_though_the_script_cannot(bool multifd, int offset)
    {
        using var qemu = _lab.Boot("q35");
        qemu.SetCapability("mapped-ram");
        if (multifd)
        {
            qemu.SetCapability("multifd");
        }

        string path = _lab.Save(qemu, "vm.stream", offset == 0 ? "" : $",offset={offset}");
        var info = AssertWhole(path, offset);
        Assert.Equal("mapped-ram", info.Format);
        var ram = info.RamBlocks.Single(b => b.Name == "pc.ram");
        // The firmware may not have written to its memory yet; that it lies in the file itself is certain.
        Assert.InRange(ram.NormalPages, 0, ram.Pages - 1);
        Assert.InRange(info.RamBlocks.Sum(b => b.NormalPages), 1, info.RamBlocks.Sum(b => b.Pages) - 1);
        Assert.All(info.RamBlocks, b => Assert.True(b.BitmapOffset > 0 && b.PagesOffset > b.BitmapOffset));
    }

    [Theory]
    [InlineData("none")]
    [InlineData("zlib")]
    [InlineData("zstd")]
    public void An_archive_of_a_multifd_migration_has_every_page(string compression)
    {
        string folder = _lab.Folder.File("archive");
        using (var recorder = new StreamLab.Recorder(folder, connections: 4))
        {
            using var qemu = _lab.Boot("q35");
            qemu.SetCapability("multifd");
            qemu.SetParameters(new JsonObject { ["multifd-channels"] = 3, ["multifd-compression"] = compression });
            qemu.Migrate(recorder.Uri);
            qemu.WaitForMigration("completed");
            recorder.Finish();
        }

        var info = AssertWhole(folder);
        Assert.Equal("multifd archive", info.Format);
        Assert.Equal([0, 1, 2], info.Channels.Select(c => c.Id).Order());
        Assert.Contains(info.Channels, c => c.Compression == compression);
        Assert.True(info.RamBlocks.Single(b => b.Name == "pc.ram").MultifdPages > 30);
    }

    [Fact]
    public void Xbzrle_pages_of_a_guest_that_writes_are_told()
    {
        using var qemu = _lab.Boot("pc");
        qemu.SetCapability("xbzrle");
        qemu.SetParameters(new JsonObject { ["max-bandwidth"] = 1 << 20, ["downtime-limit"] = 1 });
        string path = _lab.Folder.File("vm.stream");
        qemu.Migrate($"file:{path}");
        qemu.WaitUntil(() => (long?)qemu.Command("query-migrate")["xbzrle-cache"]?["pages"] > 10, "XBZRLE pages", 60);
        qemu.SetParameters(new JsonObject { ["max-bandwidth"] = 1L << 30, ["downtime-limit"] = 2000 });
        qemu.WaitForMigration("completed");
        var info = AssertWhole(path);
        var ram = info.RamBlocks.Single(b => b.Name == "pc.ram");
        Assert.True(ram.XbzrlePages > 10);
        Assert.True(ram.DuplicatePages >= ram.XbzrlePages);
    }

    [Fact]
    public void A_dirty_bitmap_s_sections_are_walked()
    {
        string disk = _lab.Folder.File("d.qcow2");
        using (var create = new PeerProcess(Peers.Require("qemu-img"), "create", "-f", "qcow2", disk, "64M"))
        {
            Assert.Equal(0, create.WaitForExit());
        }

        using var qemu = _lab.Boot("q35", "-blockdev", $"driver=qcow2,node-name=d0,file.driver=file,file.filename={disk}", "-device", "virtio-blk-pci,drive=d0");
        qemu.Command("block-dirty-bitmap-add", new JsonObject { ["node"] = "d0", ["name"] = "backup", ["persistent"] = true });
        qemu.SetCapability("dirty-bitmaps");
        var info = AssertWhole(_lab.Save(qemu, "vm.stream"));
        Assert.Contains(info.Sections, s => s is { IdStr: "dirty-bitmap", Kind: "Start" });
    }

    [Fact]
    public void A_postcopy_stream_with_its_package_is_walked_though_it_has_no_description()
    {
        string folder = _lab.Folder.File("postcopy");
        using var target = _lab.Boot("q35", "-incoming", "defer");
        using var qemu = _lab.Boot("q35");
        foreach (var side in new[] { qemu, target })
        {
            side.SetCapability("postcopy-ram");
        }

        target.Command("migrate-incoming", new JsonObject { ["uri"] = "tcp:127.0.0.1:0" });
        int port = int.Parse((string)target.Command("query-migrate")["socket-address"]![0]!["port"]!, System.Globalization.CultureInfo.InvariantCulture);
        using (var recorder = new StreamLab.Recorder(folder, connections: 1, port))
        {
            qemu.SetParameters(new JsonObject { ["max-bandwidth"] = 1 << 20 });
            qemu.Migrate(recorder.Uri);
            qemu.WaitUntil(() => qemu.MigrationStatus == "active", "the migration to run");
            qemu.Command("migrate-start-postcopy");
            qemu.SetParameters(new JsonObject { ["max-postcopy-bandwidth"] = 1L << 30 });
            qemu.WaitForMigration("completed");

            // The source has heard that everything arrived. A target may keep its connection open beyond that.
            target.Kill();
            recorder.Finish();
        }

        var info = MigrationStreams.GetInfo(new MigrationStreamInput { Path = Path.Combine(folder, "connection0.bin") });
        Assert.True(info.Complete, info.Failure);
        Assert.True(info.Postcopy);
        Assert.Contains(info.Commands, c => c.Name == "Packaged");
        Assert.Contains(info.Commands, c => c.Name == "PostcopyRamDiscard");
        Assert.True(info.Devices.Length > 20);
        Assert.Null(info.DescriptionOffset);
        Assert.True(MigrationStreams.Test(new MigrationStreamInput { Path = info.Path }).Passed);
    }

    [Theory]
    [InlineData("highbank", 1024)]
    [InlineData("virt-2.7", 1024)]
    [InlineData("virt", 4096)]
    public void A_stream_of_small_pages_is_read_through_a_pipe(string machine, int pageSize)
    {
        using var qemu = QemuProcess.Start(_lab.Folder, "arm", ["-M", machine, "-accel", "tcg"], program: "qemu-system-aarch64");
        string path = _lab.Save(qemu, "vm.stream");
        using var input = new System.IO.Pipes.AnonymousPipeServerStream(System.IO.Pipes.PipeDirection.In);
        using var output = new System.IO.Pipes.AnonymousPipeClientStream(System.IO.Pipes.PipeDirection.Out, input.ClientSafePipeHandle);
        var feeding = Task.Factory.StartNew(() =>
        {
            using var file = File.OpenRead(path);
            file.CopyTo(output);
            output.Dispose();
        }, TaskCreationOptions.LongRunning);
        var info = MigrationStreams.GetInfo(new MigrationStreamInput { Path = "a pipe", Forward = input });
        Assert.True(((IAsyncResult)feeding).AsyncWaitHandle.WaitOne(TimeSpan.FromSeconds(60)));
        Assert.True(info.Complete, info.Failure);
        Assert.Equal((pageSize, 0L), (info.PageSize, info.RamBlocks.Sum(b => b.MissingPages)));
        Assert.Equal(info.RamBlocks.Select(b => b.Pages), MigrationStreams.GetInfo(new MigrationStreamInput { Path = path }).RamBlocks.Select(b => b.Pages));
    }

    [Theory]
    [InlineData("plain")]
    [InlineData("xbzrle")]
    [InlineData("mapped-ram")]
    [InlineData("multifd none")]
    [InlineData("multifd zlib")]
    [InlineData("multifd zstd")]
    [InlineData("multifd none legacy zero pages")]
    public void The_memory_in_a_stream_is_the_memory_of_the_guest(string mode)
    {
        using var qemu = _lab.Boot("pc");
        StreamLab.WaitForGuest(qemu);
        string path = _lab.Folder.File("out");
        bool multifd = mode.StartsWith("multifd", StringComparison.Ordinal);
        var parameters = new JsonObject { ["max-bandwidth"] = 4 << 20, ["downtime-limit"] = 1 };
        if (multifd)
        {
            qemu.SetCapability("multifd");
            parameters["multifd-channels"] = 2;
            parameters["multifd-compression"] = mode.Split(' ')[1];
            parameters["zero-page-detection"] = mode.EndsWith("pages", StringComparison.Ordinal) ? "legacy" : "multifd";
        }
        else if (mode != "plain")
        {
            qemu.SetCapability(mode);
        }

        qemu.SetParameters(parameters);
        using (var recorder = multifd ? new StreamLab.Recorder(path, connections: 3) : null)
        {
            // Several rounds, in which the guest writes, before the bandwidth suffices to end.
            qemu.Migrate(recorder?.Uri ?? $"file:{path}");
            qemu.WaitUntil(() => (long?)qemu.Command("query-migrate")["ram"]?["dirty-sync-count"] > 3 || qemu.MigrationStatus == "completed", "a few rounds");
            qemu.SetParameters(new JsonObject { ["max-bandwidth"] = 1L << 30, ["downtime-limit"] = 2000 });
            qemu.WaitForMigration("completed");
            recorder?.Finish();
        }

        using var scope = new TransferScope(TimeSpan.FromSeconds(30));
        var export = RamExporter.Export(
            new RamExportOptions { Input = new MigrationStreamInput { Path = path }, Block = "pc.ram", Destination = _lab.Folder.File("ram") }, scope);
        Assert.Equal(32L << 20, export.Bytes);
        qemu.Command("pmemsave", new JsonObject { ["val"] = 0, ["size"] = 32 << 20, ["filename"] = _lab.Folder.File("truth") });
        byte[] ours = File.ReadAllBytes(export.Path), truth = File.ReadAllBytes(_lab.Folder.File("truth"));

        // Between 640 KiB and 1 MiB the guest sees the display and ROMs instead of its memory.
        Assert.True(ours.AsSpan(0, 0xa0000).SequenceEqual(truth.AsSpan(0, 0xa0000)));
        Assert.True(ours.AsSpan(1 << 20).SequenceEqual(truth.AsSpan(1 << 20)));
        Assert.NotEqual(-1, ours.AsSpan(0x10000, 0x10000).IndexOfAnyExcept((byte)0));
    }

    [Theory]
    [InlineData("pc", "-device", "e1000", "-device", "virtio-net-pci")]
    [InlineData("q35", "-device", "virtio-serial-pci", "-device", "qemu-xhci", "-device", "VGA")]
    [InlineData("q35", "-device", "uefi-vars-x64")]
    [InlineData("microvm")]
    [InlineData("virt")]
    public void A_qemu_can_load_its_own_streams_by_its_own_device_description(string machine, params string[] devices)
    {
        using var qemu = _lab.Boot(machine, devices);
        string path = _lab.Save(qemu, "vm.stream");
        string dump = Dump(machine);
        var found = MigrationStreams.CompareWithDump(new MigrationStreamInput { Path = path }, dump);
        Assert.DoesNotContain(found, d => d.Severity == "Error");
        Assert.True(MigrationStreams.IsDump(dump));
        Assert.False(MigrationStreams.IsDump(path));
    }

    [Fact]
    public void Another_machine_s_device_description_names_what_would_not_load()
    {
        using var qemu = _lab.Boot("q35", "-device", "e1000");
        var found = MigrationStreams.CompareWithDump(new MigrationStreamInput { Path = _lab.Save(qemu, "vm.stream") }, Dump("pc"));
        Assert.Contains(found, d => d is { Severity: "Error", Field: "machine type" });
    }

    [Theory]
    [InlineData("raw", 0, null)]
    [InlineData("gzip", 1, "gzip")]
    [InlineData("bzip2", 2, "bzip2")]
    [InlineData("xz", 3, "xz")]
    [InlineData("lzop", 4, "lzop")]
    [InlineData("zstd", 5, "zstd")]
    public void A_libvirt_save_image_is_read_through_its_compression(string compression, int format, string? program)
    {
        using var qemu = _lab.Boot("q35");
        string stream = _lab.Save(qemu, "vm.stream");
        string body = stream;
        if (program is not null)
        {
            body = _lab.Folder.File("compressed");
            using var compress = new PeerProcess("sh", "-c", $"{Peers.Require(program)} -c '{stream}' > '{body}'");
            Assert.Equal(0, compress.WaitForExit());
        }

        string image = _lab.Folder.File("image");
        using (var file = File.Create(image))
        {
            byte[] xml = "<domain/>\0"u8.ToArray();
            var header = new byte[92];
            "LibvirtQemudSave"u8.CopyTo(header);
            (header[16], header[20], header[24], header[28]) = (2, (byte)xml.Length, 1, (byte)format);
            file.Write(header);
            file.Write(xml);
            file.Write(File.ReadAllBytes(body));
        }

        var info = AssertWhole(image);
        Assert.Equal($"libvirt {compression} stream", info.Format);
        var json = new StringWriter();
        MigrationStreams.WriteAnalyzeJson(new MigrationStreamInput { Path = image }, json);
        Assert.Equal(StreamLab.Analyze(stream), json.ToString());

        // A damaged body is an error whatever undoes the compression.
        byte[] bytes = File.ReadAllBytes(image);
        File.WriteAllBytes(image, bytes[..(bytes.Length / 2)]);
        Assert.False(MigrationStreams.Test(new MigrationStreamInput { Path = image }).Passed);
    }

    private string Dump(string machine)
    {
        string dump = _lab.Folder.File("dump.json");
        using var qemu = new PeerProcess(Peers.Require(machine == "virt" ? "qemu-system-aarch64" : "qemu-system-x86_64"), "-M", machine, "-dump-vmstate", dump);
        Assert.Equal(0, qemu.WaitForExit());
        return dump;
    }

    private static void AssertSameAsScript(string path)
    {
        var ours = new StringWriter();
        MigrationStreams.WriteAnalyzeJson(new MigrationStreamInput { Path = path }, ours);
        Assert.Equal(StreamLab.Analyze(path), ours.ToString());

        // Through a pipe the description comes last, when the bodies have gone by.
        using var cat = System.Diagnostics.Process.Start(new System.Diagnostics.ProcessStartInfo("cat", [path]) { RedirectStandardOutput = true })!;
        var piped = new StringWriter();
        MigrationStreams.WriteAnalyzeJson(new MigrationStreamInput { Path = path, Forward = cat.StandardOutput.BaseStream }, piped);
        Assert.Equal(ours.ToString(), piped.ToString());
    }

    private static MigrationStreamInfo AssertWhole(string path, long offset = 0)
    {
        var input = new MigrationStreamInput { Path = path, Offset = offset };
        var info = MigrationStreams.GetInfo(input);
        Assert.True(info.Complete, info.Failure);
        var report = MigrationStreams.Test(input);
        Assert.True(report.Passed, string.Join('\n', report.Checks.Select(c => c.ToString())));
        return info;
    }
}
