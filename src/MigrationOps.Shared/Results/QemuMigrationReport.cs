namespace MigrationOps;

/// <summary>What a check of a pre-flight found.</summary>
public enum QemuCheckStatus
{
    /// <summary>Nothing stands against the migration.</summary>
    Passed,

    /// <summary>Nothing stands against it; there is something to know.</summary>
    Info,

    /// <summary>The migration works, or may not work; the detail says on what it depends.</summary>
    Warning,

    /// <summary>It could not be found out. This never counts as passed.</summary>
    Unknown,

    /// <summary>The migration fails, or the guest does not survive it.</summary>
    Blocker,
}

/// <summary>What a pre-flight looks at.</summary>
public enum QemuCheckGroup
{
    /// <summary>Who is asked, and which side runs: without these answers no migration is safe.</summary>
    Truth,

    /// <summary>The programs and what they offer.</summary>
    Version,

    /// <summary>The machine and its CPUs.</summary>
    Machine,

    /// <summary>Guest memory.</summary>
    Memory,

    /// <summary>Devices and their state.</summary>
    Device,

    /// <summary>Disks.</summary>
    Storage,

    /// <summary>The guest's network.</summary>
    Network,

    /// <summary>How the migration is to be done: capabilities, parameters, mode.</summary>
    Migration,

    /// <summary>The way of the stream: TLS, ports, links.</summary>
    Transport,

    /// <summary>The host of the target.</summary>
    Host,

    /// <summary>What a manager such as libvirt says to it.</summary>
    Manager,

    /// <summary>How long it takes.</summary>
    Estimate,
}

/// <summary>One thing that differs, or that a check has to say something about.</summary>
public sealed record QemuMigrationDifference
{
    /// <summary>What it is: a property, a RAM block, a feature.</summary>
    public required string Name { get; init; }

    /// <summary>How it is at the source; empty if it is not there.</summary>
    public required string Source { get; init; }

    /// <summary>How it is at the target; empty if it is not there.</summary>
    public required string Target { get; init; }

    /// <summary>What it means for the migration.</summary>
    public required QemuCheckStatus Status { get; init; }

    /// <summary>The difference in one line.</summary>
    public override string ToString() => $"{Name}: {(Source.Length == 0 ? "-" : Source)} -> {(Target.Length == 0 ? "-" : Target)}";
}

/// <summary>One named check of a pre-flight.</summary>
public sealed record QemuMigrationCheck
{
    /// <summary>Its name, which stays the same.</summary>
    public required string Name { get; init; }

    /// <summary>What it looks at.</summary>
    public required QemuCheckGroup Group { get; init; }

    /// <summary>What it found.</summary>
    public required QemuCheckStatus Status { get; init; }

    /// <summary>What was found at the source; empty if there is nothing to tell.</summary>
    public required string Source { get; init; }

    /// <summary>What was found at the target; empty if there is nothing to tell.</summary>
    public required string Target { get; init; }

    /// <summary>What it means, in one sentence; empty if it passed without a remark.</summary>
    public required string Detail { get; init; }

    /// <summary>What to do, as it can be typed where that is possible; empty if nothing is to be done.</summary>
    public required string RecommendedAction { get; init; }

    /// <summary>The single things behind it, the worst first.</summary>
    public required QemuMigrationDifference[] Data { get; init; }

    /// <summary>The check in one line.</summary>
    public override string ToString() => $"{Status} {Name}{(Detail.Length == 0 ? "" : ": " + Detail)}";
}

/// <summary>
/// Whether a VM can be migrated, found out before it is tried. It is a picture of one moment: a plain record that survives remoting
/// and jobs, and goes down the pipeline to the migration.
/// </summary>
public sealed record QemuMigrationReport
{
    /// <summary>The name of the VM; null if it has none.</summary>
    public required string? VM { get; init; }

    /// <summary>The VM's UUID; null if it has none.</summary>
    public required string? Uuid { get; init; }

    /// <summary>The address of the source's monitor.</summary>
    public required string Source { get; init; }

    /// <summary>The address of the monitor of the QEMU that waits; the host's name if the target is a host.</summary>
    public required string Target { get; init; }

    /// <summary>True if the target is a host on which no QEMU waits yet.</summary>
    public required bool TargetIsHost { get; init; }

    /// <summary>The process id of the source; 0 if it cannot be seen.</summary>
    public required int SourceProcessId { get; init; }

    /// <summary>The process id of the QEMU that waits; 0 if it cannot be seen, or there is none.</summary>
    public required int TargetProcessId { get; init; }

    /// <summary>The version of the source's QEMU.</summary>
    public required string SourceVersion { get; init; }

    /// <summary>The version of the target's QEMU; empty if it did not answer.</summary>
    public required string TargetVersion { get; init; }

    /// <summary>How the memory is to come to the target.</summary>
    public required QemuMigrationMode Mode { get; init; }

    /// <summary>Multifd channels that are to be used; 0 for none.</summary>
    public required int Channels { get; init; }

    /// <summary>The bandwidth that the migration may take, in bytes per second; null for QEMU's setting.</summary>
    public required long? MaxBandwidth { get; init; }

    /// <summary>The downtime that is allowed; null for QEMU's setting.</summary>
    public required TimeSpan? DowntimeLimit { get; init; }

    /// <summary>When it was taken (UTC).</summary>
    public required DateTime TakenAt { get; init; }

    /// <summary>How long that took.</summary>
    public required TimeSpan Duration { get; init; }

    /// <summary>The checks, in their order.</summary>
    public required QemuMigrationCheck[] Checks { get; init; }

    /// <summary>How long the migration will take; null if it was not estimated.</summary>
    public required QemuMigrationEstimate? Estimate { get; init; }

    /// <summary>True if no check is a Blocker and none of the group Truth is Unknown.</summary>
    public bool CanMigrate => !Checks.Any(check => check.Status == QemuCheckStatus.Blocker
        || check is { Status: QemuCheckStatus.Unknown, Group: QemuCheckGroup.Truth });

    /// <summary>The worst that a check found.</summary>
    public QemuCheckStatus Verdict => Checks.Length == 0 ? QemuCheckStatus.Unknown : Checks.Max(check => check.Status);

    /// <summary>How many checks are a Blocker.</summary>
    public int Blockers => Count(QemuCheckStatus.Blocker);

    /// <summary>How many are a Warning.</summary>
    public int Warnings => Count(QemuCheckStatus.Warning);

    /// <summary>How many could not be found out.</summary>
    public int Unknown => Count(QemuCheckStatus.Unknown);

    /// <summary>How many are an Info.</summary>
    public int Infos => Count(QemuCheckStatus.Info);

    /// <summary>How many passed.</summary>
    public int Passed => Count(QemuCheckStatus.Passed);

    /// <summary>The report in one line.</summary>
    public override string ToString() => $"{VM ?? Source} -> {Target}: {(CanMigrate ? "can migrate" : "cannot migrate")}, {Blockers} blockers, {Warnings} warnings, {Unknown} unknown, {Passed + Infos} passed";

    private int Count(QemuCheckStatus status) => Checks.Count(check => check.Status == status);
}
