using System.Text.Json.Nodes;
using MigrationOps.Engine.Rehearsal;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;
using MigrationOps.Interop.Tests.Streams;

namespace MigrationOps.Interop.Tests.Rehearsal;

/// <summary>
/// A rehearsal without the guest's memory comes to the verdict of one with it, for a guest whose firmware has used the queues of its
/// disk: with zeros in place of those rings QEMU refuses it.
/// </summary>
[Collection("Rehearsal")]
public sealed class SkipMemoryTests : IDisposable
{
    private readonly StreamLab _lab = new();

    public void Dispose() => _lab.Dispose();

    [Theory]
    [InlineData("pc")]
    [InlineData("q35")]
    [InlineData("pc", "-m", "3G")]
    public void A_booted_guest_loads_and_is_refused_as_with_its_memory(string machine, params string[] more)
    {
        using var qemu = Boot(machine, more);
        string stream = _lab.Save(qemu, "vm.stream");
        AssertSameVerdicts(stream, Target(machine, more), whole: more.Length == 0);
    }

    [Fact]
    public void Zeros_in_place_of_the_rings_are_refused_so_that_they_have_to_be_given()
    {
        // A machine without kvmvapic, which would refuse zeros before the disk does.
        using var qemu = Boot("microvm");
        string stream = _lab.Save(qemu, "vm.stream");
        string[] target = ["-M", "microvm", "-accel", "tcg", "-m", "32", "-nodefaults", "-drive", $"file={_lab.Folder.File("boot.img")},format=raw,if=none,id=b,readonly=on",
            "-device", "virtio-blk-device,drive=b"];
        var given = Rehearse(stream, target, skip: true);
        Assert.True(given.Passed, string.Join('\n', given.QemuOutput));
        AssertRingsMatter(stream, target);
    }

    [Fact]
    public void A_mapped_ram_file_is_rehearsed_without_its_memory()
    {
        using var qemu = Boot("q35");
        qemu.SetCapability("mapped-ram");
        qemu.SetCapability("multifd");
        string stream = _lab.Save(qemu, "vm.stream");
        AssertSameVerdicts(stream, Target("q35"), whole: false);
    }

    [Theory]
    [InlineData("none")]
    [InlineData("zlib")]
    [InlineData("zstd")]
    public void The_folder_of_recorded_channels_is_rehearsed_without_its_memory(string compression)
    {
        using var qemu = Boot("q35");
        using var recorder = new StreamLab.Recorder(_lab.Folder.File("archive"), 3);
        qemu.SetCapability("multifd");
        qemu.SetParameters(new JsonObject { ["multifd-channels"] = 2, ["multifd-compression"] = compression, ["max-bandwidth"] = 1 << 30 });
        qemu.Migrate(recorder.Uri);
        qemu.WaitForMigration("completed");
        recorder.Finish();
        AssertSameVerdicts(_lab.Folder.File("archive"), Target("q35"), whole: false);
    }

    [Fact]
    public void Memory_that_is_not_in_the_stream_is_said()
    {
        string[] shared = ["-object", $"memory-backend-file,id=m0,size=64M,share=on,mem-path={_lab.Folder.File("ram")}"];
        using var qemu = Boot("q35,memory-backend=m0", [.. shared, "-m", "64"]);
        qemu.SetCapability("x-ignore-shared");
        string stream = _lab.Save(qemu, "vm.stream");
        var rehearsal = Rehearse(stream, Target("q35,memory-backend=m0", [.. shared, "-m", "64"]), skip: true);
        Assert.Contains(rehearsal.Notes, n => n.Contains("x-ignore-shared", StringComparison.Ordinal));
    }

    private QemuProcess Boot(string machine, params string[] more)
    {
        var qemu = _lab.Boot(machine, more);
        StreamLab.WaitForGuest(qemu);
        return qemu;
    }

    private string[] Target(string machine, params string[] more)
        => ["-M", machine, "-accel", "tcg", "-m", "32", "-nodefaults", "-drive", $"file={_lab.Folder.File("boot.img")},format=raw,if=none,id=b,readonly=on",
            "-device", "virtio-blk-pci,drive=b", .. more];

    private static void AssertSameVerdicts(string stream, string[] target, bool whole)
    {
        var without = Rehearse(stream, target, skip: true);
        Assert.True(without.Passed, string.Join('\n', without.QemuOutput));
        Assert.Equal([], without.Notes);
        string[] other = [.. target[..^0]];
        int device = Array.FindIndex(other, a => a.StartsWith("virtio-blk-pci", StringComparison.Ordinal));
        other[device] += ",vectors=7";
        var refused = Rehearse(stream, other, skip: true);
        Assert.Equal((false, "BadConfigData"), (refused.Passed, refused.Kind));
        if (whole)
        {
            Assert.True(Rehearse(stream, target, skip: false).Passed);
            Assert.Equal("BadConfigData", Rehearse(stream, other, skip: false).Kind);
        }
    }

    // The same stream without any page.
    private static void AssertRingsMatter(string stream, string[] target)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(30));
        using var source = new MigrationStreamInput { Path = stream }.Open(scope);
        using var contents = MigrationStreamFile.Read(source, new StreamReadOptions(), scope);
        string empty = stream + ".zeros";
        using (var output = File.Create(empty))
        {
            RehearsalFeed.WriteWithoutMemory(contents, new RehearsalPages(), output, scope);
        }

        var refused = Rehearse(empty, target, skip: false);
        Assert.Equal((false, "QueueIndex"), (refused.Passed, refused.Kind));
    }

    private static MigrationRehearsal Rehearse(string stream, string[] arguments, bool skip)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        return StreamRehearsal.RunAsync(new RehearsalOptions
        {
            Input = new MigrationStreamInput { Path = stream },
            Program = Peers.Require("qemu-system-x86_64"),
            ArgumentList = arguments,
            WorkingDirectory = "/",
            SkipMemory = skip,
        }, scope).GetAwaiter().GetResult();
    }
}
