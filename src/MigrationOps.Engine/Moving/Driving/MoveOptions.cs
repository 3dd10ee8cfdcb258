using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Moving;

/// <summary>What is moved, and how.</summary>
internal sealed record MoveOptions
{
    /// <summary>The monitor of the QEMU that has the VM.</summary>
    internal required QmpMonitor Source { get; init; }

    /// <summary>The monitor of the QEMU that waits (-incoming defer); null with <see cref="QemuMigrationMode.File"/>.</summary>
    internal QmpMonitor? Target { get; init; }

    internal QemuMigrationMode Mode { get; init; }

    /// <summary>
    /// Where the target listens (port 0 for any free one), or the file; null for the loopback of a host that both share.
    /// </summary>
    internal string? Uri { get; init; }

    /// <summary>Where the source connects to, given where the target listens: a relay or another address of its host. Null for the same.</summary>
    internal Func<string, ValueTask<string>>? Route { get; init; }

    /// <summary>The downtime that QEMU may begin the switch with.</summary>
    internal TimeSpan DowntimeLimit { get; init; } = TimeSpan.FromMilliseconds(300);

    /// <summary>How far an action may raise it.</summary>
    internal TimeSpan MaxDowntime { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>The longest time up to the switch; then the migration is cancelled. Null for no limit.</summary>
    internal TimeSpan? MaxDuration { get; init; }

    /// <summary>Bytes per second; null for no limit.</summary>
    internal long? MaxBandwidth { get; init; }

    /// <summary>Bytes per second in the switch; null to let QEMU estimate.</summary>
    internal long? SwitchoverBandwidth { get; init; }

    /// <summary>What is done when it does not converge, each once, in order.</summary>
    internal IReadOnlyList<MigrationStallAction> OnStall { get; init; } = [MigrationStallAction.RaiseDowntime, MigrationStallAction.Cancel];

    /// <summary>True to be able to switch to postcopy.</summary>
    internal bool AllowPostcopy { get; init; }

    /// <summary>True to stop at the switch, with the guest stopped, until <see cref="MigrationMove.Continue"/>.</summary>
    internal bool Hold { get; init; }

    /// <summary>Multifd channels; 0 for none.</summary>
    internal int Channels { get; init; }

    /// <summary>Compression of multifd channels: none, zlib, zstd and what else QEMU has.</summary>
    internal string? Compression { get; init; }

    /// <summary>QEMU's x509 directory, on both hosts; null for none.</summary>
    internal string? TlsDirectory { get; init; }

    /// <summary>The name that the target's certificate has; null for that of the address.</summary>
    internal string? TlsHostName { get; init; }

    /// <summary>True to allow plain text over a network.</summary>
    internal bool AllowPlaintext { get; init; }

    /// <summary>True to leave the source's process after the move, stopped.</summary>
    internal bool KeepSource { get; init; }

    /// <summary>Where the journal goes; null for the usual folder.</summary>
    internal string? JournalPath { get; init; }

    /// <summary>How long a step at one monitor may take.</summary>
    internal TimeSpan StepTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long nothing may be sent.</summary>
    internal TimeSpan NoProgress { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>The target's log on this host, for the section and field that it refuses; null if it cannot be read.</summary>
    internal Func<string>? TargetLog { get; init; }

    /// <summary>Called after each line of the journal, with the line on the disk. A move waits for it.</summary>
    internal Func<MoveRecord, Task>? OnRecord { get; init; }

    /// <summary>Called with each sample.</summary>
    internal Action<QemuMigrationStatus>? OnSample { get; init; }

    /// <summary>The pre-flight's prediction, to be shown beside what was: downtime and duration.</summary>
    internal (string? Downtime, string? Duration) Predicted { get; init; }
}
