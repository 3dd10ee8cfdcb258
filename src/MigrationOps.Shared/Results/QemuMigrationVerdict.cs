namespace MigrationOps;

/// <summary>Where a VM runs.</summary>
public enum VMRunsAt
{
    /// <summary>The evidence does not tell; nothing may be concluded.</summary>
    Unknown,

    /// <summary>At the source, and there only.</summary>
    Source,

    /// <summary>At the target, and there only.</summary>
    Target,

    /// <summary>At neither side.</summary>
    Nowhere,

    /// <summary>At both sides at once: each may write to the disks.</summary>
    Both,
}

/// <summary>The only next step that is safe for what the evidence says.</summary>
public enum MigrationSafeAction
{
    /// <summary>There is nothing to be done.</summary>
    None,

    /// <summary>A migration is under way that needs no help: ask again later.</summary>
    Wait,

    /// <summary>Cancel the migration at the source, which runs on.</summary>
    CancelMigration,

    /// <summary>End the target, and let the source continue.</summary>
    ContinueSource,

    /// <summary>Let the target, which has everything, start.</summary>
    ContinueTarget,

    /// <summary>End the source: its guest is at the target.</summary>
    QuitSource,

    /// <summary>End the target: its guest is at the source.</summary>
    QuitTarget,

    /// <summary>Recover the postcopy migration over a new connection.</summary>
    RecoverPostcopy,

    /// <summary>Reach the source's monitor, or make sure that the source is dead.</summary>
    ReachSource,

    /// <summary>Reach the target's monitor, or make sure that the target is dead.</summary>
    ReachTarget,

    /// <summary>The guest's memory is lost or may not be used: start the VM from its disks, on one host.</summary>
    StartFromDisk,

    /// <summary>Nothing is safe by itself: a person has to decide, with the evidence.</summary>
    Decide,
}

/// <summary>What an operator knows and the evidence does not.</summary>
public enum MigrationAssumption
{
    /// <summary>The target's QEMU is dead and stays dead: its host was powered off, for one.</summary>
    TargetDead,

    /// <summary>The target's guest has never run, not for a moment.</summary>
    TargetNeverRan,

    /// <summary>The source's QEMU is dead and stays dead.</summary>
    SourceDead,
}

/// <summary>Who runs a VM during or after a migration, by evidence, and what is safe to do next.</summary>
public sealed record QemuMigrationVerdict
{
    /// <summary>The name of the VM; null if it is not known.</summary>
    public string? VM { get; init; }

    /// <summary>Where it runs.</summary>
    public required VMRunsAt RunsAt { get; init; }

    /// <summary>The only safe next step.</summary>
    public required MigrationSafeAction SafeAction { get; init; }

    /// <summary>Why, in a sentence or two.</summary>
    public required string Reason { get; init; }

    /// <summary>What is known of each side and from the journal, a fact each.</summary>
    public required string[] Evidence { get; init; }

    /// <summary>What is known of the source, in one word.</summary>
    public required string SourceState { get; init; }

    /// <summary>What is known of the target, in one word.</summary>
    public required string TargetState { get; init; }

    /// <summary>The source's monitor; null if it is not known.</summary>
    public string? Source { get; init; }

    /// <summary>The target's monitor; null if it is not known.</summary>
    public string? Target { get; init; }

    /// <summary>The journal of the move; null if there is none.</summary>
    public string? Journal { get; init; }

    /// <summary>What was done to repair it, in order.</summary>
    public string[] Done { get; init; } = [];
}
