using MigrationOps.Engine.Devices;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Tests.SaveVm;
using MigrationOps.Engine.Tests.Storage;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Tests.Vfio;
using MigrationOps.Engine.Tests.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Devices;

public sealed class StateFileDeviceTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(0, true)]
    [InlineData(10, false)]
    [InlineData(2_000_000, true)]
    public void A_state_file_travels_with_its_manifest_and_passes_its_checks_there(int size, bool withManifest)
    {
        States.Save(_folder["a"], States.RandomBytes(size), kind: DeviceStateKind.Vfio);
        if (!withManifest)
        {
            File.Delete(_folder["a.json"]);
        }

        var result = Load(Send("a"), "b");
        Assert.Empty(result.Warnings);
        Assert.Equal(File.ReadAllBytes(_folder["a"]), File.ReadAllBytes(_folder["b"]));
        Assert.True(States.Verify(_folder["b"], kind: DeviceStateKind.Vfio).Report.Passed);
        if (withManifest)
        {
            Assert.Equal(File.ReadAllText(_folder["a.json"]).Trim(), File.ReadAllText(_folder["b.json"]).Trim());
        }
    }

    [Fact]
    public void A_large_one_is_sent_while_the_device_runs_under_the_bandwidth_limit()
    {
        States.Save(_folder["a"], States.RandomBytes(1_000_000));
        Load(Send("a", new SaveVmSourceOptions
        {
            MaxBandwidth = 5_000_000,
            DowntimeLimit = TimeSpan.FromMilliseconds(10),
            Turn = TimeSpan.FromMilliseconds(20),
            OnRound = round => Assert.True(round.TotalBytes > 0),
        }), "b");
        Assert.Equal(File.ReadAllBytes(_folder["a"]), File.ReadAllBytes(_folder["b"]));
    }

    [Fact]
    public void A_damaged_bare_or_missing_one_is_refused_before_anything_is_sent()
    {
        States.Save(_folder["a"], States.RandomBytes(1000));
        byte[] bytes = File.ReadAllBytes(_folder["a"]);
        bytes[500] ^= 1;
        File.WriteAllBytes(_folder["a"], bytes);
        Assert.Equal(StateFileError.Damaged, NotSent("a"));
        States.Save(_folder["raw"], States.RandomBytes(1000), raw: true);
        Assert.Equal(StateFileError.RawNotAllowed, NotSent("raw"));
        Assert.Equal(StateFileError.NotFound, NotSent("none"));
    }

    [Fact]
    public void A_stream_that_is_cut_or_flipped_anywhere_keeps_the_previous_file()
    {
        States.Save(_folder["a"], States.RandomBytes(300));
        var before = States.Save(_folder["b"], States.RandomBytes(20, seed: 1));
        byte[] stream = Send("a");
        int start = stream.AsSpan().IndexOf("MOSF"u8);
        int end = stream.AsSpan().LastIndexOf(new byte[] { 0xff, 0xff, 0xff, 0xff });
        for (int at = start; at < end + 4; at += 7)
        {
            Assert.ThrowsAny<MigrationOpsException>(() => Load(stream[..at], "b"));
            byte[] flipped = [.. stream];
            flipped[at] ^= 0x20;
            try
            {
                Load(flipped, "b");
                // A manifest's text has entries without a check, such as a host's name.
                Assert.Equal(File.ReadAllBytes(_folder["a"]), File.ReadAllBytes(_folder["b"]));
                before = States.Save(_folder["b"], States.RandomBytes(20, seed: 1));
            }
            catch (MigrationOpsException)
            {
                Assert.Equal(before.Sha256, States.Verify(_folder["b"]).Digest!.Value.Sha256);
            }

            Assert.Equal(["a", "a.json", "b", "b.json"], _folder.Entries);
        }
    }

    [Fact]
    public void A_section_of_something_else_is_no_state_file()
    {
        using var stream = new MemoryStream();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        new SaveVmSource(Migrations.Registry(("file", new ScriptedDevice("x", new CallLog(), ScriptedDevice.Whole) { State = States.RandomBytes(100) })),
            new SaveVmSourceOptions()).Run(_ => stream, scope);
        var failure = Assert.Throws<SaveVmException>(() => Load(stream.ToArray(), "b"));
        Assert.Equal(StateFileError.Malformed, Assert.IsType<StateFileException>(failure.InnerException).Reason);
        Assert.Empty(_folder.Entries);
    }

    [Fact]
    public void A_disk_that_fills_up_keeps_the_previous_file()
        => SmallDisk.Run(typeof(StateFileDeviceTests).FullName + "." + nameof(A_disk_that_fills_up_keeps_the_previous_file), disk =>
        {
            States.Save(_folder["a"], States.RandomBytes(2_000_000));
            File.WriteAllText(disk["b"], "previous");
            byte[] stream = Send("a");
            var failure = Assert.Throws<SaveVmException>(() => BrokenConnectionTests.Load(
                Migrations.Registry(("file", new StateFileDevice(disk["b"]))), stream));
            Assert.Equal(WireError.NoSpace, Assert.IsType<WireException>(failure.InnerException).Reason);
            Assert.Equal("previous", File.ReadAllText(disk["b"]));
            Assert.Equal(["b"], disk.Entries);
        });

    private StateFileError NotSent(string name)
    {
        var failure = Assert.Throws<SaveVmException>(() => Send(name));
        return Assert.IsType<StateFileException>(failure.InnerException).Reason;
    }

    private byte[] Send(string name, SaveVmSourceOptions? options = null)
    {
        using var stream = new MemoryStream();
        using var scope = new TransferScope(TimeSpan.FromSeconds(30));
        new SaveVmSource(Migrations.Registry(("file", new StateFileDevice(_folder[name]))), options ?? new SaveVmSourceOptions()).Run(_ => stream, scope);
        return stream.ToArray();
    }

    private MigrationStreamTransfer Load(byte[] stream, string name)
        => BrokenConnectionTests.Load(Migrations.Registry(("file", new StateFileDevice(_folder[name]))), stream);
}
