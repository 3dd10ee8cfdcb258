using System.Text.Json.Nodes;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.SaveVm;

/// <summary>The source driver in front of a real target that runs its guest before the memory is there, with userfaultfd.</summary>
public class QemuPostcopyTests
{
    [Theory]
    [InlineData(MigrationGuest.Program)]
    [InlineData(MigrationGuest.Program + "-trixie")]
    [InlineData(MigrationGuest.Program + "-newer")]
    [InlineData(MigrationGuest.Program + "-newer", 2)]
    public void A_real_target_runs_on_pages_that_it_asks_for_before_the_others_come(string program, int channels = 0)
    {
        using var guest = new MigrationGuest(program);
        var (ram, registry, machine, counted) = Record(guest);
        var target = StartTarget(guest, out string socket, channels);
        int sentWhenRunning = -1;
        ram.MayPush = () =>
        {
            if (sentWhenRunning < 0 && target.Status == "running" && ram.Requested > 0)
            {
                sentWhenRunning = ram.Sent;
            }

            return sentWhenRunning >= 0;
        };
        var source = new SaveVmSource(registry, Options(machine) with { MultifdChannels = channels });
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var sent = SaveVmTransfer.Send(source, new Endpoint.Unix(socket), TransportSecurity.Default, scope);
        Assert.Equal((true, MigrationOwner.Target, true), (sent.Postcopy, sent.Owner, sent.Confirmed));
        Assert.InRange(sentWhenRunning, 0, ram.Sent - 1);
        target.WaitForMigration("completed");
        MigrationGuest.AssertRunsOn(target, counted);
    }

    [Theory]
    [InlineData(MigrationGuest.Program)]
    [InlineData(MigrationGuest.Program + "-newer")]
    public void A_real_target_waits_after_a_lost_connection_and_recovers_with_what_its_bitmap_lacks(string program)
    {
        using var guest = new MigrationGuest(program);
        var (ram, registry, machine, counted) = Record(guest);
        var target = StartTarget(guest, out string socket);
        ram.BreakAfter = 2000;
        // Slow enough for some pages to have left when it breaks.
        var source = new SaveVmSource(registry, Options(machine) with { MaxPostcopyBandwidth = 1_000_000 });
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var failure = Assert.Throws<SaveVmException>(() => SaveVmTransfer.Send(source, new Endpoint.Unix(socket), TransportSecurity.Default, scope));
        Assert.Equal((SaveVmError.PostcopyPaused, true), (failure.Reason, source.IsPaused));
        target.WaitUntil(() => target.MigrationStatus == "postcopy-paused", "the target to notice");

        string again = guest.Folder.File("again");
        target.Command("migrate-recover", new JsonObject { ["uri"] = "unix:" + again });
        target.WaitForSocket(again);
        var sent = SaveVmTransfer.Resume(source, new Endpoint.Unix(again), TransportSecurity.Default, scope);
        Assert.Equal((1, MigrationOwner.Target), (sent.Recoveries, sent.Owner));
        Assert.InRange(ram.Arrived, 1, 2000);
        target.WaitForMigration("completed");
        MigrationGuest.AssertRunsOn(target, counted);
    }

    private static (PostcopyRam Ram, SaveVmRegistry Registry, string Machine, ulong Counted) Record(MigrationGuest guest)
    {
        string path = guest.Folder.File("recorded.stream");
        var source = guest.StartSource();
        source.Migrate("file:" + path);
        source.WaitForMigration("completed");
        ulong counted = CountingFirmware.ReadCounter(source);
        source.Kill();
        var recorded = RecordedStream.Read(path);
        var ram = new PostcopyRam(recorded.Blocks, recorded.Pages);
        return (ram, recorded.Register(("ram", ram)), recorded.MachineType, counted);
    }

    private static QemuProcess StartTarget(MigrationGuest guest, out string socket, int channels = 0)
    {
        socket = guest.Folder.File("in");
        var target = guest.StartTarget("defer");
        var reply = target.Send("migrate-set-capabilities", new JsonObject
        {
            ["capabilities"] = new JsonArray(new JsonObject { ["capability"] = "postcopy-ram", ["state"] = true }),
        });
        Assert.SkipWhen(reply["error"] is not null, $"This machine has no userfaultfd for QEMU; run as root, or set vm.unprivileged_userfaultfd=1: {reply["error"]?.ToJsonString()}");
        if (channels > 0)
        {
            target.SetCapability("multifd");
            target.SetParameters(new JsonObject { ["multifd-channels"] = channels });
        }

        target.Command("migrate-incoming", new JsonObject { ["uri"] = "unix:" + socket });
        target.WaitForSocket(socket);
        return target;
    }

    private static SaveVmSourceOptions Options(string machine) => new()
    {
        MachineType = machine,
        ReturnPath = true,
        Postcopy = true,
        PostcopyAfter = 0,
        DowntimeLimit = TimeSpan.Zero,
        Turn = TimeSpan.FromMilliseconds(20),
    };
}
