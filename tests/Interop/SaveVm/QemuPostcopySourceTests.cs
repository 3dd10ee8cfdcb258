using System.Text.Json.Nodes;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.SaveVm;

/// <summary>The target driver behind a real source that switches to postcopy.</summary>
public class QemuPostcopySourceTests
{
    private const long CounterAddress = 0x7e00;

    [Theory]
    [InlineData(MigrationGuest.Program, null)]
    [InlineData(MigrationGuest.Program + "-newer", null)]
    [InlineData(MigrationGuest.Program, 200)]
    [InlineData(MigrationGuest.Program + "-newer", 200)]
    public async Task A_real_source_brings_its_guest_over_in_postcopy_also_over_a_second_connection(string program, int? breakAfter)
    {
        // Memory that is not zero, so that sending it takes its time.
        using var folder = new TestFolder();
        byte[] noise = new byte[16 << 20];
        new Random(1).NextBytes(noise);
        string memory = folder.File("memory");
        await File.WriteAllBytesAsync(memory, noise, TestContext.Current.CancellationToken);
        using var guest = new MigrationGuest(program, "-M", "pc,memory-backend=m0", "-object", $"memory-backend-file,id=m0,size=16M,mem-path={memory},share=off");
        var ram = new ReceivedRam { BreakAfter = breakAfter };
        var target = new SaveVmTarget(Registry(guest, ram, out string machine), new()
        {
            MachineType = machine,
            ReturnPath = true,
            Postcopy = true,
            StartDevice = () => ram.Running = true,
        });
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        string socket = guest.Folder.File("in");
        var receiving = Task.Run(() => SaveVmTransfer.Receive(target, new Endpoint.Unix(socket), TransportSecurity.Default, scope));
        var source = guest.StartSource();
        source.WaitForSocket(socket);
        source.SetCapability("postcopy-ram");
        // So slow that it does not converge before it is told to switch, and still has something to send when the connection breaks.
        source.SetParameters(new JsonObject { ["max-bandwidth"] = 1_000_000, ["max-postcopy-bandwidth"] = breakAfter is null ? 0 : 4_000_000 });
        source.Migrate("unix:" + socket);
        source.WaitUntil(() => source.MigrationStatus == "active", "the first pages");
        source.Command("migrate-start-postcopy");
        if (breakAfter is not null)
        {
            var failure = await Assert.ThrowsAsync<SaveVmException>(() => receiving);
            Assert.Equal((SaveVmError.PostcopyPaused, MigrationOwner.Target), (failure.Reason, failure.Owner));
            source.WaitUntil(() => source.MigrationStatus == "postcopy-paused", "the source to notice");
            string again = guest.Folder.File("again");
            receiving = Task.Run(() => SaveVmTransfer.Resume(target, new Endpoint.Unix(again), TransportSecurity.Default, scope));
            source.WaitForSocket(again);
            source.SetParameters(new JsonObject { ["max-postcopy-bandwidth"] = 0 });
            source.Command("migrate", new JsonObject { ["uri"] = "unix:" + again, ["resume"] = true });
        }

        var result = await receiving;
        source.WaitForMigration("completed");
        Assert.Equal((true, MigrationOwner.Target, breakAfter is null ? 0 : 1), (result.Postcopy, result.Owner, result.Recoveries));
        Assert.True(ram.Late > 0, "Everything came before the switch.");
        Assert.True(ram.IsWhole, "Pages are missing.");
        Assert.Equal(CountingFirmware.ReadCounter(source), ram.Read(CounterAddress));
    }

    // The devices of this machine, each with the length that its state had in a stream to a file.
    private static SaveVmRegistry Registry(MigrationGuest guest, ReceivedRam ram, out string machine)
    {
        string path = guest.Folder.File("recorded.stream");
        var source = guest.StartSource();
        source.Migrate("file:" + path);
        source.WaitForMigration("completed");
        source.Kill();
        var recorded = RecordedStream.Read(path);
        machine = recorded.MachineType;
        var registry = new SaveVmRegistry();
        foreach (var device in recorded.Sections.GroupBy(s => s.Header.Id))
        {
            var (header, body) = device.First();
            registry.Register(header.IdStr, header.InstanceId, (int)header.VersionId,
                header.Kind == SectionKind.Full ? new OpaqueState(body.Length) : ram);
        }

        return registry;
    }
}
