using MigrationOps.Engine.Qemu;
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

    [Theory]
    [InlineData(MigrationGuest.Program, "q35", "multifd")]
    [InlineData(MigrationGuest.Program, "q35", "legacy")]
    [InlineData(MigrationGuest.Program, "pc-q35-8.0", "legacy")]
    [InlineData(MigrationGuest.Program + "-newer", "q35", "multifd")]
    public void Memory_that_comes_over_multifd_channels_is_kept_round_by_round_and_the_guest_runs_on_from_it(string program, string machine, string zeroPages)
    {
        using var guest = new MigrationGuest(program, "-M", machine);
        var source = guest.StartSource();
        source.SetCapability("return-path");
        source.SetCapability("multifd");
        // Slow enough for several rounds, in which the counter's page comes again.
        source.SetParameters(new() { ["multifd-channels"] = 2, ["zero-page-detection"] = zeroPages, ["max-bandwidth"] = 4 << 20, ["downtime-limit"] = 5 });
        string spool = guest.Folder.File("kept.stream");
        var received = Receive(guest, source, spool, new GlobalState(), channels: 2);
        Assert.Contains("ram", received.Spooled);
        Assert.Equal((2, true), (received.MultifdChannels, received.ChannelBytes > 4096));
        var kept = RecordedStream.Read(spool);
        Assert.Equal(received.Spooled, kept.Sections.Select(s => s.Header.InstanceId == 0 ? s.Header.IdStr : $"{s.Header.IdStr}/{s.Header.InstanceId}")
            .Distinct().Order(StringComparer.Ordinal));
        MigrationGuest.AssertRunsOn(guest.StartTarget("file:" + spool), CountingFirmware.ReadCounter(source));
    }

    [Fact]
    public void Memory_that_is_compressed_on_its_channels_is_refused_by_name_and_the_real_source_goes_on()
    {
        // 10.0.2 may stand still when its channels break this early: its main loop then waits for the big lock, which no thread holds.
        using var guest = new MigrationGuest("qemu-system-x86_64-newer", "-M", "q35");
        var source = guest.StartSource();
        source.SetCapability("return-path");
        source.SetCapability("multifd");
        source.SetParameters(new() { ["multifd-channels"] = 2, ["multifd-compression"] = "zlib" });
        string spool = guest.Folder.File("kept.stream");
        var failure = Assert.Throws<SaveVmException>(() => Receive(guest, source, spool, new GlobalState(), status: "failed", channels: 2));
        Assert.Equal(SaveVmError.NotSupported, failure.Reason);
        Assert.Contains("compressed", failure.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(spool));
        source.WaitUntil(() => source.Status == "running", "the guest to run on in the source");
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
    public void A_real_source_resumes_when_its_devices_are_not_taken()
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
        MigrationGuest guest, QemuProcess source, string? spool, ISaveVmHandlers globalState, string status = "completed", int channels = 0)
    {
        var registry = new SaveVmRegistry();
        registry.Register(GlobalState.IdStr, 0, 1, globalState);
        string socket = guest.Folder.File("out");
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var options = new SaveVmTargetOptions { SwitchoverAck = true, SpoolPath = spool, MultifdChannels = channels };
        var receiving = Task.Factory.StartNew(
            () => SaveVmTransfer.Receive(registry, new Endpoint.Unix(socket), TransportSecurity.Default, options, scope), TaskCreationOptions.LongRunning);
        source.WaitForSocket(socket);
        source.Migrate("unix:" + socket);
        source.WaitForMigration(status);
        return receiving.GetAwaiter().GetResult();
    }
}
