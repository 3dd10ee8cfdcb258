using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests;

public class PeersTests
{
    [Fact]
    public void A_real_qemu_runs_its_firmware_and_answers_its_monitor()
    {
        using var folder = new TestFolder();
        using var qemu = QemuProcess.Start(folder, "q", ["-M", "q35", "-accel", QemuProcess.Accelerator, "-m", "64"]);
        Assert.Equal("running", qemu.Status);
        qemu.Command("quit");
        Assert.Equal(0, qemu.WaitForExit());
    }
}
