using System.Text.Json;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// What is known of a QEMU's state from its events and answers. Texts that this version does not know are kept as they are.
/// </summary>
internal sealed class MonitorState
{
    private volatile string? _runState;
    private volatile string? _migration;

    /// <summary>The run state as QEMU calls it (running, paused, inmigrate ...); null before it is known.</summary>
    internal string? RunState => _runState;

    /// <summary>The migration's status as QEMU calls it; null before it is known, and where QEMU reports none.</summary>
    internal string? Migration => _migration;

    /// <summary>
    /// True in states in which QEMU may hold its big lock for long: a switchover, the load of devices, the end of a migration.
    /// </summary>
    internal bool MayBeBusy => _runState is "inmigrate" or "finish-migrate" or "save-vm" or "restore-vm"
        || _migration is "setup" or "device" or "pre-switchover" or "wait-unplug" or "cancelling" or "failing" or "postcopy-device";

    internal void Take(QmpMessage.Event happened)
    {
        switch (happened.Name)
        {
            case "MIGRATION":
                _migration = happened.Data.Text("status") ?? _migration;
                break;
            case "RESUME":
                _runState = "running";
                break;
            case "STOP" when _runState == "running":
                _runState = "paused";
                break;
            case "SHUTDOWN":
                _runState = "shutdown";
                break;
            case "GUEST_PANICKED":
                _runState = "guest-panicked";
                break;
        }
    }

    internal void Take(string command, JsonElement answer)
    {
        switch (command)
        {
            case "query-status":
                _runState = answer.Text("status") ?? _runState;
                break;
            case "query-migrate":
                _migration = answer.Text("status");
                break;
        }
    }
}
