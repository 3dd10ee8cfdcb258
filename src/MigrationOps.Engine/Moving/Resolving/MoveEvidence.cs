namespace MigrationOps.Engine.Moving;

/// <summary>What is known of a source.</summary>
internal enum SourceState
{
    /// <summary>It runs the guest.</summary>
    Running,

    /// <summary>It has the guest, which is paused or suspended.</summary>
    Paused,

    /// <summary>It has stopped the guest for the switch (finish-migrate), and may let it run again by itself.</summary>
    Switching,

    /// <summary>It has sent everything (postmigrate, completed); it does not run again by itself.</summary>
    Sent,

    /// <summary>It holds pages that the target fetches.</summary>
    Postcopy,

    /// <summary>The same, with a broken connection.</summary>
    PostcopyPaused,

    /// <summary>It has the guest, which has ended or stopped for a reason of its own (shutdown, panic, I/O error).</summary>
    Halted,

    /// <summary>Its process is proven or assumed dead.</summary>
    Dead,

    /// <summary>It does not answer.</summary>
    Silent,
}

/// <summary>What is known of a target.</summary>
internal enum TargetState
{
    /// <summary>There is none: a file, or it is not known which one.</summary>
    None,

    /// <summary>It waits or loads (inmigrate).</summary>
    Waiting,

    /// <summary>Its load has failed.</summary>
    Failed,

    /// <summary>It has everything, and is paused.</summary>
    Loaded,

    /// <summary>It runs the guest.</summary>
    Running,

    /// <summary>It can run the guest with part of its memory, and is paused.</summary>
    PostcopyHeld,

    /// <summary>It runs the guest with part of its memory.</summary>
    PostcopyRunning,

    /// <summary>It has the guest with part of its memory and a broken connection.</summary>
    PostcopyPaused,

    /// <summary>It has the guest, which has ended or stopped for a reason of its own.</summary>
    Halted,

    /// <summary>Its process is proven or assumed dead.</summary>
    Dead,

    /// <summary>It does not answer.</summary>
    Silent,
}

/// <summary>All that a verdict rests on.</summary>
internal sealed record MoveEvidence
{
    public required SourceState Source { get; init; }

    /// <summary>True if the source has a migration under way.</summary>
    public bool Migrating { get; init; }

    public required TargetState Target { get; init; }

    /// <summary>True if there is a journal; what follows is false without one.</summary>
    public bool HasJournal { get; init; }

    /// <summary>The target took 'stop' before it listened: it does not start by itself.</summary>
    public bool Armed { get; init; }

    /// <summary>The source was seen to have sent everything.</summary>
    public bool Completed { get; init; }

    /// <summary>The target may have been told to start.</summary>
    public bool Committed { get; init; }

    /// <summary>The target was seen to have the VM as its own.</summary>
    public bool Ran { get; init; }

    /// <summary>The VM was given back to the source, and the target must never start.</summary>
    public bool Abandoned { get; init; }

    /// <summary>The VM was paused before the move.</summary>
    public bool WasPaused { get; init; }

    /// <summary>The source's process is to stay.</summary>
    public bool KeepSource { get; init; }

    /// <summary>The VM was migrated into a file.</summary>
    public bool ToFile { get; init; }

    /// <summary>An operator vouches for it: the target has never run the guest.</summary>
    public bool NeverRan { get; init; }

    /// <summary>The facts that a journal has.</summary>
    internal static MoveEvidence From(MoveHistory? history, SourceState source, bool migrating, TargetState target) => new()
    {
        Source = source,
        Migrating = migrating,
        Target = target,
        HasJournal = history is not null,
        Armed = history?.Armed == true,
        Completed = history?.Completed == true,
        Committed = history?.Committed == true,
        Ran = history?.Ran == true,
        Abandoned = history?.Abandoned == true,
        WasPaused = history?.Intent.WasPaused == true,
        KeepSource = history?.Intent.KeepSource == true,
        ToFile = history?.Intent.Mode == QemuMigrationMode.File,
    };
}
