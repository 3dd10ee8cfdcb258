using System.Text.Json.Nodes;
using MigrationOps.Engine.Streams;
using static MigrationOps.Interop.Tests.Streams.LoadTruth;

namespace MigrationOps.Interop.Tests.Streams;

/// <summary>Streams of every shape that a real QEMU writes and loads: each is read, and not a word is said against it.</summary>
public sealed class WholeStreamTests : IDisposable
{
    private static readonly string[] NoFooters = ["-global", "migration.send-section-footer=off"];

    private readonly StreamLab _lab = new();

    public void Dispose() => _lab.Dispose();

    [Theory]
    [InlineData("q35")]
    [InlineData("pc")]
    [InlineData("virt")]
    public void A_stream_without_footers_is_read_as_the_script_reads_it(string machine)
    {
        string stream = Save(machine, NoFooters);
        Assert.True(Load(_lab, stream, machine, NoFooters).Loaded);
        Assert.Empty(Failed(stream));
        var json = new StringWriter();
        MigrationStreams.WriteAnalyzeJson(new MigrationStreamInput { Path = stream }, json);
        Assert.Equal(StreamLab.Analyze(stream), json.ToString());

        // Without a description beforehand the same ends are found.
        using var forward = Forward(stream);
        var piped = MigrationStreams.GetInfo(new MigrationStreamInput { Path = stream, Forward = forward });
        var info = MigrationStreams.GetInfo(new MigrationStreamInput { Path = stream });
        Assert.Equal(Shape(info), Shape(piped));
        Assert.Contains(info.Notes, n => n.Contains("no footers", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(true, 0)]
    [InlineData(true, 1 << 20)]
    [InlineData(false, 0)]
    [InlineData(false, 1 << 20)]
    public void A_stream_without_a_description_has_all_its_sections(bool footers, int zeros)
    {
        string[] more = footers ? [] : NoFooters;
        string whole = Save("q35", more);
        string stream = Save("q35,suppress-vmdesc=on", more);
        using (var file = File.OpenWrite(stream))
        {
            file.SetLength(file.Length + zeros);
        }

        Assert.True(Load(_lab, stream, "q35,suppress-vmdesc=on", more).Loaded);
        Assert.Equal(["Description"], Failed(stream).Select(c => c.Name));
        Assert.All(Failed(stream), c => Assert.Contains("QEMU does not read it", c.RecommendedAction, StringComparison.Ordinal));
        Assert.Equal(Shape(Info(whole)), Shape(Info(stream)));
    }

    [Theory]
    [InlineData("{}")]
    [InlineData("{\"page_size\":4096,\"devices\":[]}")]
    [InlineData("not json")]
    public void A_description_of_no_use_is_a_complaint_about_the_description_alone(string json)
    {
        string stream = Save("q35");
        var info = Info(stream);
        byte[] bytes = [.. File.ReadAllBytes(stream).AsSpan(0, (int)info.DescriptionOffset!.Value + 1), 0, 0, 0, (byte)json.Length, .. System.Text.Encoding.ASCII.GetBytes(json)];
        File.WriteAllBytes(stream, bytes);
        Assert.True(Load(_lab, stream, "q35").Loaded);
        Assert.Equal(["Description"], Failed(stream).Select(c => c.Name));
        Assert.True(Info(stream).Complete);
        Assert.Equal(Shape(info), Shape(Info(stream)));
    }

    [Theory]
    [InlineData("zeros")]
    [InlineData("hole")]
    [InlineData("older state")]
    [InlineData("older state and zeros")]
    [InlineData("half a description")]
    public void What_lies_behind_a_stream_is_a_note(string what)
    {
        string stream = Save("q35", "-device", "virtio-rng-pci,vectors=4");
        string older = Save("q35", "-device", "virtio-rng-pci,vectors=2", "-device", "e1000");
        long length = new FileInfo(stream).Length;
        byte[] old = File.ReadAllBytes(older);
        using (var file = new FileStream(stream, FileMode.Append))
        {
            file.Write(what switch
            {
                "zeros" => new byte[1 << 20],
                "older state" => old,
                "older state and zeros" => [.. old, .. new byte[100_000]],
                "half a description" => old.AsSpan(old.Length - 3000),
                _ => [],
            });
            file.SetLength(file.Length + (what == "hole" ? 1L << 30 : 0));
        }

        var clock = System.Diagnostics.Stopwatch.StartNew();
        var info = Info(stream);
        Assert.True(info.Complete, info.Failure);
        Assert.Equal(new FileInfo(stream).Length - length, info.TrailingBytes);
        Assert.Contains(info.Devices, d => d.Layout == "virtio-rng");
        Assert.DoesNotContain(info.Devices, d => d.Layout == "e1000");
        Assert.Empty(Failed(stream));
        Assert.True(Load(_lab, stream, "q35", "-device", "virtio-rng-pci,vectors=4").Loaded);
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("bzip2")]
    [InlineData("xz")]
    [InlineData("lzop")]
    [InlineData("zstd")]
    public void A_compressed_stream_is_read_through_its_compression(string program)
    {
        string path = Peers.Require(program);
        string stream = Save("q35"), packed = _lab.Folder.File("vm.packed");
        using (var compress = new PeerProcess("sh", "-c", $"{path} -c '{stream}' > '{packed}'"))
        {
            Assert.Equal(0, compress.WaitForExit());
        }

        Assert.Empty(Failed(packed));
        Assert.Equal($"{program} stream", Info(packed).Format);
        Assert.Equal(Shape(Info(stream)), Shape(Info(packed)));

        // As on a volume, with zeros behind.
        File.AppendAllBytes(packed, new byte[10_000]);
        Assert.Empty(Failed(packed));
    }

    [Fact]
    public void A_background_snapshot_whose_ram_has_no_end_section_is_whole()
    {
        using var qemu = _lab.Boot("q35");
        var set = qemu.Send("migrate-set-capabilities", new JsonObject
        {
            ["capabilities"] = new JsonArray(new JsonObject { ["capability"] = "background-snapshot", ["state"] = true }),
        });
        Assert.SkipUnless(set["error"] is null, "This kernel has no userfaultfd with write protection.");
        string stream = _lab.Save(qemu, "vm.stream");
        Assert.Empty(Failed(stream));
        Assert.True(Load(_lab, stream, "q35").Loaded);
        Assert.DoesNotContain(Info(stream).Sections, s => s is { Kind: "End", IdStr: "ram" });
    }

    [Fact]
    public void Shared_memory_that_stays_where_it_is_has_no_place_in_a_mapped_ram_file_of_qemu_11()
    {
        string program = Peers.Require("qemu-system-x86_64-newer");
        string stream = _lab.Folder.File("vm.stream");
        string[] arguments = ["-M", "q35,memory-backend=m0", "-m", "32", "-S", "-object", $"memory-backend-file,id=m0,size=32M,share=on,mem-path={_lab.Folder.File("ram")}"];
        using (var qemu = QemuProcess.Start(_lab.Folder, "newer", arguments, program: Path.GetFileName(program)))
        {
            qemu.SetCapability("x-ignore-shared");
            qemu.SetCapability("mapped-ram");
            qemu.Migrate($"file:{stream}");
            qemu.WaitForMigration("completed");
        }

        Assert.Empty(Failed(stream));
        var info = Info(stream);
        Assert.Contains(info.RamBlocks, b => b is { Name: "m0", NormalPages: 0, MissingPages: 0, BitmapOffset: null });
        Assert.Contains(info.RamBlocks, b => b is { Name: "pc.bios", NormalPages: > 0, BitmapOffset: > 0 });
        Assert.Contains(info.Notes, n => n.Contains("m0 is shared memory", StringComparison.Ordinal));
    }

    private string Save(string machine, params string[] more)
    {
        using var qemu = _lab.Boot(machine, [.. more, "-S"]);
        return _lab.Save(qemu, $"vm{Directory.GetFiles(_lab.Folder.Path).Length}.stream");
    }

    private static MigrationStreamInfo Info(string stream) => MigrationStreams.GetInfo(new MigrationStreamInput { Path = stream });

    private static string[] Shape(MigrationStreamInfo info) => [.. info.Sections.Select(s => $"{s.Kind} {s.IdStr} {s.BodyLength}")];

    private static Stream Forward(string path)
        => System.Diagnostics.Process.Start(new System.Diagnostics.ProcessStartInfo("cat", [path]) { RedirectStandardOutput = true })!.StandardOutput.BaseStream;
}
