namespace MigrationOps;

/// <summary>Where a migration is, in words that stay the same for every version of QEMU.</summary>
public enum QemuMigrationPhase
{
    /// <summary>QEMU reports no migration.</summary>
    None,

    /// <summary>It is being set up, or waits for a device to be unplugged.</summary>
    Setup,

    /// <summary>Memory is copied while the guest runs.</summary>
    Copying,

    /// <summary>The guest is stopped and QEMU waits for migrate-continue (pre-switchover).</summary>
    Held,

    /// <summary>The guest stands still and the last state is sent or loaded.</summary>
    Switching,

    /// <summary>The guest runs on the target and fetches its memory.</summary>
    Postcopy,

    /// <summary>The connection of a postcopy migration is broken; it can be recovered.</summary>
    PostcopyPaused,

    /// <summary>A postcopy migration is being recovered.</summary>
    Recovering,

    /// <summary>It is being cancelled.</summary>
    Cancelling,

    /// <summary>It has failed and is being cleaned up.</summary>
    Failing,

    /// <summary>It has completed.</summary>
    Completed,

    /// <summary>It has failed.</summary>
    Failed,

    /// <summary>It was cancelled.</summary>
    Cancelled,

    /// <summary>Two VMs run in lock step (COLO).</summary>
    Colo,

    /// <summary>A status that this version does not know: nothing may be concluded from it.</summary>
    Unknown,
}

/// <summary>
/// A sample of a migration: what query-migrate says, every member with its unit in its name or as a TimeSpan. A member that this QEMU does not
/// report is null.
/// </summary>
public sealed record QemuMigrationStatus
{
    /// <summary>The name of the VM; null if it has none.</summary>
    public required string? VM { get; init; }

    /// <summary>The address of the monitor.</summary>
    public required string Monitor { get; init; }

    /// <summary>When the sample was taken (UTC).</summary>
    public required DateTime TakenAt { get; init; }

    /// <summary>The status in QEMU's own word; null if QEMU reports none.</summary>
    public required string? Status { get; init; }

    /// <summary>Where the migration is.</summary>
    public required QemuMigrationPhase Phase { get; init; }

    /// <summary>The VM's state in QEMU's own word; null if it was not asked.</summary>
    public string? RunState { get; init; }

    /// <summary>The pass over memory that runs (dirty-sync-count).</summary>
    public long? Pass { get; init; }

    /// <summary>Memory that is still to be sent, in bytes.</summary>
    public long? RemainingBytes { get; init; }

    /// <summary>Everything that is still to be sent, devices too, in bytes. QEMU 11.1 and later.</summary>
    public long? TotalRemainingBytes { get; init; }

    /// <summary>Memory that has been sent, in bytes.</summary>
    public long? TransferredBytes { get; init; }

    /// <summary>The memory of the guest, in bytes.</summary>
    public long? TotalBytes { get; init; }

    /// <summary>How fast the guest writes, in bytes per second; 0 before the second pass.</summary>
    public long? DirtyBytesPerSecond { get; init; }

    /// <summary>How fast memory is sent, in bytes per second.</summary>
    public long? BytesPerSecond { get; init; }

    /// <summary>Pages that are sent per second.</summary>
    public long? PagesPerSecond { get; init; }

    /// <summary>The size of a page, in bytes.</summary>
    public long? PageBytes { get; init; }

    /// <summary>Pages that hold one value everywhere and were sent as such.</summary>
    public long? ZeroPages { get; init; }

    /// <summary>Pages that were sent whole.</summary>
    public long? NormalPages { get; init; }

    /// <summary>Bytes of pages that were sent whole.</summary>
    public long? NormalBytes { get; init; }

    /// <summary>Bytes that were sent over multifd channels.</summary>
    public long? MultifdBytes { get; init; }

    /// <summary>Bytes that were sent while the guest ran on the source.</summary>
    public long? PrecopyBytes { get; init; }

    /// <summary>Bytes that were sent while the guest stood still.</summary>
    public long? DowntimeBytes { get; init; }

    /// <summary>Bytes that were sent after the switch to postcopy.</summary>
    public long? PostcopyBytes { get; init; }

    /// <summary>Pages that the target asked for in postcopy.</summary>
    public long? PostcopyRequests { get; init; }

    /// <summary>Rounds in which zero-copy could not avoid a copy.</summary>
    public long? ZeroCopyMissed { get; init; }

    /// <summary>State of VFIO devices that has been sent, in bytes.</summary>
    public long? VfioBytes { get; init; }

    /// <summary>Time since the start of the migration; the whole when it has ended.</summary>
    public TimeSpan? TotalTime { get; init; }

    /// <summary>Time until the first byte of memory.</summary>
    public TimeSpan? SetupTime { get; init; }

    /// <summary>The downtime if it switched now, by memory alone; in the first pass it is the limit that was set.</summary>
    public TimeSpan? ExpectedDowntime { get; init; }

    /// <summary>The downtime as the source measured it; after the end only.</summary>
    public TimeSpan? Downtime { get; init; }

    /// <summary>How much the guest's CPUs are slowed down, in percent.</summary>
    public int? ThrottlePercent { get; init; }

    /// <summary>How long a vCPU waited in one round for its dirty limit.</summary>
    public TimeSpan? DirtyLimitThrottle { get; init; }

    /// <summary>The estimated time in which the dirty ring is full.</summary>
    public TimeSpan? DirtyRingFull { get; init; }

    /// <summary>How long vCPUs waited for pages in postcopy.</summary>
    public TimeSpan? PostcopyBlocktime { get; init; }

    /// <summary>How long each vCPU waited for pages in postcopy.</summary>
    public TimeSpan[] PostcopyVcpuBlocktime { get; init; } = [];

    /// <summary>The mean time of a page request in postcopy. QEMU 10.1 and later.</summary>
    public TimeSpan? PostcopyLatency { get; init; }

    /// <summary>The size of the XBZRLE cache in bytes.</summary>
    public long? XbzrleCacheBytes { get; init; }

    /// <summary>Bytes that were sent as XBZRLE differences.</summary>
    public long? XbzrleBytes { get; init; }

    /// <summary>Pages that were sent as XBZRLE differences.</summary>
    public long? XbzrlePages { get; init; }

    /// <summary>Pages that were not in the XBZRLE cache.</summary>
    public long? XbzrleCacheMisses { get; init; }

    /// <summary>Which part of the pages was not in the cache lately, from 0 to 1.</summary>
    public double? XbzrleCacheMissRate { get; init; }

    /// <summary>How many bytes of memory one XBZRLE byte stood for lately.</summary>
    public double? XbzrleEncodingRate { get; init; }

    /// <summary>Pages whose difference was larger than the page.</summary>
    public long? XbzrleOverflows { get; init; }

    /// <summary>Where a target listens.</summary>
    public string[] Listening { get; init; } = [];

    /// <summary>Why it failed, in QEMU's words; null if it did not.</summary>
    public string? Error { get; init; }

    /// <summary>What forbids a migration now, in QEMU's words.</summary>
    public string[] BlockedReasons { get; init; } = [];

    /// <summary>Members that this version of MigrationOps does not know, as <c>name = value</c>.</summary>
    public string[] OtherMembers { get; init; } = [];

    /// <summary>True if the migration has ended, in whatever way.</summary>
    public bool HasEnded => Phase is QemuMigrationPhase.Completed or QemuMigrationPhase.Failed or QemuMigrationPhase.Cancelled;
}
