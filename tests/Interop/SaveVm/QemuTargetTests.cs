using System.Text.Json.Nodes;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.SaveVm;

/// <summary>The source driver in front of a real target: each device of a recorded stream is a registered handler.</summary>
public class QemuTargetTests
{
    [Theory]
    [InlineData(MigrationGuest.Program, "-M", "pc")]
    [InlineData(MigrationGuest.Program, "-M", "q35", "-device", "virtio-net-pci", "-device", "qemu-xhci", "-device", "VGA", "-device", "virtio-serial-pci")]
    [InlineData(MigrationGuest.Program + "-trixie", "-M", "q35")]
    [InlineData(MigrationGuest.Program + "-newer", "-M", "q35")]
    public void A_real_target_takes_a_stream_section_by_section_and_runs_by_the_word_of_our_own_device(string program, params string[] machine)
    {
        using var guest = new MigrationGuest(program, machine);
        var recorded = Record(guest, out ulong counted, paused: true);
        var target = Relay(guest, recorded, out var sent, (GlobalState.IdStr, new GlobalState("running")));
        MigrationGuest.AssertRunsOn(target, counted);
        Assert.True(sent.Confirmed);
        Assert.Equal(recorded.Sections.Count, sent.Sections);
    }

    [Theory]
    [InlineData("pc-q35-11.1", false)]
    [InlineData("pc-q35-11.0", true)]
    public void A_real_target_with_switchover_ack_allows_it_as_its_machine_type_counts(string machineType, bool acknowledged)
    {
        using var guest = new MigrationGuest(MigrationGuest.Program + "-newer", "-M", machineType);
        var recorded = Record(guest, out ulong counted, paused: true);
        Assert.Equal(machineType, recorded.MachineType);
        var target = Relay(guest, recorded, out var sent, null, switchoverAck: true, (GlobalState.IdStr, new GlobalState("running")));
        MigrationGuest.AssertRunsOn(target, counted);
        Assert.Equal((true, acknowledged), (sent.Confirmed, sent.SwitchoverAcknowledged));
    }

    [Fact]
    public void A_real_target_stays_as_it_was_recorded_unless_told_otherwise()
    {
        using var guest = new MigrationGuest();
        var recorded = Record(guest, out ulong counted, paused: true);
        var target = Relay(guest, recorded, out _);
        target.WaitUntil(() => target.Status == "paused", "the guest to be there");
        Assert.Equal(counted, CountingFirmware.ReadCounter(target));
        target.Command("cont");
        MigrationGuest.AssertRunsOn(target, counted);
    }

    [Fact]
    public void A_real_target_runs_in_memory_that_our_own_iterating_device_sent()
    {
        using var guest = new MigrationGuest();
        var recorded = Record(guest, out ulong counted, paused: false);
        var ram = new OwnRam(recorded.Blocks, recorded.Pages);
        var target = Relay(guest, recorded, out var sent, ("ram", ram));
        MigrationGuest.AssertRunsOn(target, counted);
        Assert.True(ram.Iterations > 1 && sent.Rounds > 0, $"{ram.Iterations} iterations, {sent.Rounds} rounds");
    }

    [Fact]
    public void What_a_real_target_refuses_fails_the_source_and_resumes_its_device()
    {
        using var guest = new MigrationGuest();
        var recorded = Record(guest, out _, paused: true);
        bool resumed = false;
        var failure = Assert.Throws<SaveVmException>(() => Relay(guest, recorded, out _, () => resumed = true, switchoverAck: false, ("timer", new GlobalState("too long for it"))));
        Assert.True(failure.Reason is SaveVmError.TargetFailed or SaveVmError.ConnectionLost, failure.ToString());
        Assert.True(resumed);
    }

    private static RecordedStream Record(MigrationGuest guest, out ulong counted, bool paused)
    {
        string path = guest.Folder.File("recorded.stream");
        var source = guest.StartSource();
        if (paused)
        {
            source.Command("stop");
        }

        source.Migrate("file:" + path);
        source.WaitForMigration("completed");
        counted = CountingFirmware.ReadCounter(source);
        source.Kill();
        return RecordedStream.Read(path);
    }

    private static QemuProcess Relay(MigrationGuest guest, RecordedStream recorded, out MigrationStreamTransfer sent,
        params (string IdStr, ISaveVmHandlers Handlers)[] own) => Relay(guest, recorded, out sent, null, switchoverAck: false, own);

    private static QemuProcess Relay(MigrationGuest guest, RecordedStream recorded, out MigrationStreamTransfer sent, Action? resume,
        bool switchoverAck, params (string IdStr, ISaveVmHandlers Handlers)[] own)
    {
        string socket = guest.Folder.File("in");
        var target = guest.StartTarget("defer");
        target.SetCapability("return-path");
        target.SetCapability("switchover-ack", switchoverAck);
        target.Command("migrate-incoming", new JsonObject { ["uri"] = "unix:" + socket });
        target.WaitForSocket(socket);
        var options = new SaveVmSourceOptions
        {
            MachineType = recorded.MachineType,
            ReturnPath = true,
            SwitchoverAck = switchoverAck,
            DowntimeLimit = TimeSpan.Zero,
            ResumeDevice = resume,
        };
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        try
        {
            sent = SaveVmTransfer.Send(recorded.Register(own), new Endpoint.Unix(socket), TransportSecurity.Default, options, scope);
        }
        catch
        {
            target.WaitForExit();
            TestContext.Current.TestOutputHelper?.WriteLine(target.Output);
            throw;
        }

        return target;
    }
}
