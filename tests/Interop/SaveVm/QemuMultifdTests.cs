using System.Text.Json.Nodes;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.SaveVm;

/// <summary>The source driver's multifd channels in front of a real target, which loads once it has all of them.</summary>
public class QemuMultifdTests
{
    [Theory]
    [InlineData("qemu-system-x86_64", 1)]
    [InlineData("qemu-system-x86_64", 4)]
    [InlineData("qemu-system-x86_64-trixie", 2)]
    [InlineData("qemu-system-x86_64-newer", 2)]
    public void A_real_target_takes_the_channels_and_says_that_it_has_everything(string program, int channels)
    {
        using var folder = new TestFolder();
        using var qemu = Start(folder, program, channels);
        var sent = Send(folder, channels, () => { });
        qemu.WaitForMigration("completed");
        Assert.True(sent.Confirmed);
        Assert.Equal((channels, 64L * channels), (sent.MultifdChannels, sent.ChannelBytes));
    }

    [Fact]
    public void A_real_target_that_has_fewer_channels_is_no_success_for_the_source()
    {
        using var folder = new TestFolder();
        using var qemu = Start(folder, "qemu-system-x86_64", 1);
        bool resumed = false;
        var failure = Assert.ThrowsAny<MigrationOpsException>(() => Send(folder, 3, () => resumed = true));
        Assert.True(failure is MultifdException { Reason: MultifdError.TargetDroppedChannel } or SaveVmException, failure.ToString());
        Assert.True(resumed || failure is MultifdException);
    }

    private static QemuProcess Start(TestFolder folder, string program, int channels)
    {
        var qemu = QemuProcess.Start(folder, "target", ["-M", "none", "-S", "-incoming", "defer"], program: program);
        qemu.SetCapability("multifd");
        qemu.SetParameters(new JsonObject { ["multifd-channels"] = channels });
        qemu.Command("migrate-incoming", new JsonObject { ["uri"] = $"unix:{folder.File("socket")}" });
        return qemu;
    }

    private static MigrationStreamTransfer Send(TestFolder folder, int channels, Action resume)
    {
        var registry = new SaveVmRegistry();
        registry.Register("acme/idle", 0, 1, new IdleDevice());
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        return SaveVmTransfer.Send(registry, new Endpoint.Unix(folder.File("socket")), TransportSecurity.Default,
            new SaveVmSourceOptions { MultifdChannels = channels, ReturnPath = true, ResumeDevice = resume }, scope);
    }

    // A machine of no kind has no devices to load, so it takes any stream that has none.
    private sealed class IdleDevice : ISaveVmHandlers
    {
        public bool IsActive(SaveVmContext context) => false;

        public void SaveState(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteByte(0);
    }
}
