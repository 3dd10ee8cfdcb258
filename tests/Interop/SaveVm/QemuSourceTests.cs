using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.SaveVm;

/// <summary>The target driver behind a real source: what no handler is registered for is kept in a spool file.</summary>
public class QemuSourceTests
{
    [Theory]
    [InlineData(MigrationGuest.Program, "-M", "pc")]
    [InlineData(MigrationGuest.Program, "-M", "q35", "-device", "virtio-net-pci", "-device", "qemu-xhci", "-device", "VGA", "-device", "virtio-serial-pci")]
    [InlineData(MigrationGuest.Program + "-trixie", "-M", "q35")]
    [InlineData(MigrationGuest.Program + "-newer", "-M", "pc-q35-10.0")]
    public void A_real_source_with_switchover_ack_completes_and_its_guest_runs_on_from_what_was_kept(string program, params string[] machine)
    {
        using var guest = new MigrationGuest(program, machine);
        string spool = guest.Folder.File("kept.stream");
        var source = guest.StartSource();
        source.SetCapability("return-path");
        source.SetCapability("switchover-ack");
        var globalState = new GlobalState();
        var received = Receive(guest, source, spool, globalState);
        Assert.True(received.SwitchoverAcknowledged);
        Assert.Equal("running", globalState.Loaded);
        Assert.Contains("ram", received.Spooled);
        Assert.Equal([GlobalState.IdStr], received.Devices.Except(received.Spooled));
        AssertReads(spool, received);

        ulong counted = CountingFirmware.ReadCounter(source);
        var target = guest.StartTarget("file:" + spool);
        MigrationGuest.AssertRunsOn(target, counted);
    }

    [Fact]
    public void A_newer_machine_type_counts_the_devices_that_ask_and_completes_without_an_acknowledgement_if_none_does()
    {
        using var guest = new MigrationGuest(MigrationGuest.Program + "-newer", "-M", "q35");
        var source = guest.StartSource();
        source.SetCapability("return-path");
        source.SetCapability("switchover-ack");
        var received = Receive(guest, source, guest.Folder.File("kept.stream"), new GlobalState());
        Assert.False(received.SwitchoverAcknowledged);
        MigrationGuest.AssertRunsOn(guest.StartTarget("file:" + guest.Folder.File("kept.stream")), CountingFirmware.ReadCounter(source));
    }

    [Fact]
    public void A_guest_that_writes_faster_than_it_is_sent_is_kept_with_every_round()
    {
        using var guest = new MigrationGuest();
        string spool = guest.Folder.File("kept.stream");
        var source = guest.StartSource();
        source.SetCapability("return-path");
        source.SetCapability("xbzrle");
        source.SetParameters(new() { ["max-bandwidth"] = 4 << 20, ["downtime-limit"] = 5 });
        var received = Receive(guest, source, spool, new GlobalState());
        AssertReads(spool, received);
        MigrationGuest.AssertRunsOn(guest.StartTarget("file:" + spool), CountingFirmware.ReadCounter(source));
    }

    [Fact]
    public void A_real_source_goes_on_when_nobody_takes_its_devices()
    {
        using var guest = new MigrationGuest();
        var source = guest.StartSource();
        source.SetCapability("return-path");
        var failure = Assert.Throws<SaveVmException>(() => Receive(guest, source, spool: null, new GlobalState(), status: "failed"));
        Assert.Equal(SaveVmError.UnknownSection, failure.Reason);
        ulong counted = CountingFirmware.ReadCounter(source);
        source.WaitUntil(() => source.Status == "running" && CountingFirmware.ReadCounter(source) > counted, "the guest to count on in the source");
    }

    private static void AssertReads(string spool, MigrationStreamTransfer received)
    {
        var kept = RecordedStream.Read(spool);
        Assert.Equal(received.MachineType, kept.MachineType);
        Assert.Equal(received.Spooled, kept.Sections.Select(s => s.Header.InstanceId == 0 ? s.Header.IdStr : $"{s.Header.IdStr}/{s.Header.InstanceId}")
            .Distinct().Order(StringComparer.Ordinal));
        Assert.Equal(received.Sections, kept.Sections.Count + 1);
        Assert.Equal(SectionKind.Start, kept.Sections[0].Header.Kind);
    }

    private static MigrationStreamTransfer Receive(
        MigrationGuest guest, QemuProcess source, string? spool, ISaveVmHandlers globalState, string status = "completed")
    {
        var registry = new SaveVmRegistry();
        registry.Register(GlobalState.IdStr, 0, 1, globalState);
        string socket = guest.Folder.File("out");
        using var scope = new IoScope(TimeSpan.FromSeconds(60));
        var options = new SaveVmTargetOptions { SwitchoverAck = true, SpoolPath = spool };
        var receiving = Task.Factory.StartNew(
            () => SaveVmTransfer.Receive(registry, new Endpoint.Unix(socket), TransportSecurity.Default, options, scope), TaskCreationOptions.LongRunning);
        source.WaitForSocket(socket);
        source.Migrate("unix:" + socket);
        source.WaitForMigration(status);
        return receiving.GetAwaiter().GetResult();
    }
}
