using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Qmp;

/// <summary>What a monitor session leaves behind: nothing.</summary>
[Collection(Alone.Name)]
public class QmpLeakTests
{
    [Fact]
    public async Task A_disconnected_monitor_fails_what_waits_and_leaves_no_descriptor()
    {
        // The first session opens what the runtime keeps for all that follow.
        await RunSessionAsync();
        int before = ProcessUse.Descriptors;
        await RunSessionAsync();
        ProcessUse.AssertReturnsTo(before, () => ProcessUse.Descriptors, "descriptors");
    }

    private static async Task RunSessionAsync()
    {
        await using var lab = new MonitorLab(command => command.Name == "never" ? new QmpServerAnswer.Nothing() : null);
        var monitor = await lab.ConnectAsync();
        var running = monitor.ExecuteAsync("never");
        Waiting.Until(() => lab.Server.Commands.Count == 2, "the command");
        await monitor.DisposeAsync();
        Assert.Equal(QmpError.Disconnected, (await Assert.ThrowsAsync<QmpException>(() => running)).Reason);
        Assert.Equal(QmpError.Disconnected, (await Assert.ThrowsAsync<QmpException>(() => monitor.ExecuteAsync("query-status"))).Reason);
    }
}
