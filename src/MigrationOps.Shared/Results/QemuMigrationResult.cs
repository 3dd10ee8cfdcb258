namespace MigrationOps;

/// <summary>What is done when the memory changes faster than it can be sent.</summary>
public enum MigrationStallAction
{
    /// <summary>Allow the downtime that it takes, up to the largest that was given.</summary>
    RaiseDowntime,

    /// <summary>Let QEMU slow the guest's CPUs down.</summary>
    Throttle,

    /// <summary>Let the guest run on the target and fetch the rest of its memory from there.</summary>
    Postcopy,

    /// <summary>Pause the guest until its memory is sent.</summary>
    Pause,

    /// <summary>Give the migration up; the guest stays at the source.</summary>
    Cancel,
}

/// <summary>How a migration ended.</summary>
public enum QemuMigrationOutcome
{
    /// <summary>The VM is at the target.</summary>
    Completed,

    /// <summary>It failed; <see cref="QemuMigrationResult.RunsAt"/> says where the VM is.</summary>
    Failed,

    /// <summary>It was given up before the VM moved.</summary>
    Cancelled,

    /// <summary>The VM is in a file.</summary>
    Saved,

    /// <summary>The evidence does not say how it ended: resolve it.</summary>
    Unknown,
}

/// <summary>A part of a downtime.</summary>
public sealed record MigrationDowntimePart
{
    /// <summary>What happened in it: Transfer (sent and loaded), Confirm (both sides say so), Journal (the commit), Start.</summary>
    public required string Name { get; init; }

    /// <summary>How long it took, by the clock of the host that drove the migration.</summary>
    public required TimeSpan Duration { get; init; }

    /// <summary>The name and the milliseconds.</summary>
    public override string ToString() => FormattableString.Invariant($"{Name} {Duration.TotalMilliseconds:0.0} ms");
}

/// <summary>What became of a migration, where the VM runs now, and how that is known.</summary>
public sealed record QemuMigrationResult
{
    /// <summary>The name of the VM; null if it has none.</summary>
    public string? VM { get; init; }

    /// <summary>How it ended.</summary>
    public required QemuMigrationOutcome Outcome { get; init; }

    /// <summary>Where the VM runs.</summary>
    public required VMRunsAt RunsAt { get; init; }

    /// <summary>What shows it, a fact each.</summary>
    public required string[] Evidence { get; init; }

    /// <summary>Why it ended as it did; null if there is nothing to say.</summary>
    public string? Reason { get; init; }

    /// <summary>What is to be done next; None if nothing is.</summary>
    public MigrationSafeAction SafeAction { get; init; }

    /// <summary>The source's monitor.</summary>
    public required string Source { get; init; }

    /// <summary>The target's monitor, or the file.</summary>
    public required string Target { get; init; }

    /// <summary>How it was migrated.</summary>
    public required QemuMigrationMode Mode { get; init; }

    /// <summary>How long the guest stood still, as the driver saw it; null if it did not move or did not run.</summary>
    public TimeSpan? Downtime { get; init; }

    /// <summary>The parts of it, in order.</summary>
    public MigrationDowntimePart[] DowntimeParts { get; init; } = [];

    /// <summary>The downtime as the source's QEMU measured it: without the start at the target.</summary>
    public TimeSpan? QemuDowntime { get; init; }

    /// <summary>The downtime that the pre-flight predicted, its range; null without a pre-flight.</summary>
    public string? PredictedDowntime { get; init; }

    /// <summary>The whole time.</summary>
    public TimeSpan Duration { get; init; }

    /// <summary>The time that the pre-flight predicted, its range; null without a pre-flight.</summary>
    public string? PredictedDuration { get; init; }

    /// <summary>Passes over memory.</summary>
    public long? Passes { get; init; }

    /// <summary>Memory that was sent, in bytes.</summary>
    public long? TransferredBytes { get; init; }

    /// <summary>What was done about a migration that did not converge, in order.</summary>
    public string[] Actions { get; init; } = [];

    /// <summary>The source's own words for the failure; null if it gave none.</summary>
    public string? SourceError { get; init; }

    /// <summary>The target's own words for the failure; null if it gave none.</summary>
    public string? TargetError { get; init; }

    /// <summary>The section or device that the target refused; null if it is not known.</summary>
    public string? RefusedSection { get; init; }

    /// <summary>The field of it that was refused; null if it is not known.</summary>
    public string? RefusedField { get; init; }

    /// <summary>The journal of the move.</summary>
    public string? Journal { get; init; }

    /// <summary>When it began, in UTC.</summary>
    public required DateTime StartedAt { get; init; }
}
