using System.Text.Json.Nodes;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests;

/// <summary>The runbooks of examples/ do what they say, with real peers.</summary>
public sealed class RunbookTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_migration_is_received_verified_shown_and_replayed()
    {
        string[] machine = ["-M", "q35", "-accel", QemuProcess.Accelerator, "-m", "64"];
        string repository = Repository.Root;
        string socket = _folder.File("in"), target = _folder.File("out");
        using var destination = QemuProcess.Start(_folder, "dst", [.. machine, "-incoming", "defer"]);
        Configure(destination);
        destination.Command("migrate-incoming", new JsonObject { ["uri"] = $"unix:{target}" });
        using var source = QemuProcess.Start(_folder, "src", machine);
        Configure(source);

        using var runbook = ModuleProcess.Start(
            $"& '{repository}/examples/Receive-And-ReplayMigration.ps1' -Uri unix:{socket} -Archive {_folder.File("kept")} -Target unix:{target}");
        runbook.WaitForSocket(socket);
        source.Migrate($"unix:{socket}");
        Assert.True(runbook.WaitForExit() == 0, runbook.Output);
        Assert.Contains("kept: passed", runbook.Output);
        Assert.Contains("The machine has no VFIO device", runbook.Output);
        Assert.Contains("pc-q35-10.0", runbook.Output);
        Assert.Equal("completed", source.MigrationStatus);
        destination.WaitForMigration("completed");
        Assert.Equal("running", destination.Status);
    }

    private static void Configure(QemuProcess qemu)
    {
        qemu.SetCapability("multifd");
        qemu.SetParameters(new JsonObject { ["multifd-channels"] = 3 });
    }
}
