namespace MigrationOps;

/// <summary>An event of a QEMU.</summary>
public sealed record QemuEvent
{
    /// <summary>Its name, such as MIGRATION or STOP.</summary>
    public required string Name { get; init; }

    /// <summary>Its data, an object with QEMU's own member names; null if it has none.</summary>
    public required object? Data { get; init; }

    /// <summary>The clock of QEMU's host when it happened (UTC); null if QEMU could not read it.</summary>
    public required DateTime? QemuTime { get; init; }

    /// <summary>The clock of this host when it was received (UTC).</summary>
    public required DateTime ReceivedAt { get; init; }

    /// <summary>Its number among the events of this monitor, from 1.</summary>
    public required long Sequence { get; init; }

    /// <summary>How many events before it are lost because too many came at once.</summary>
    public required long Dropped { get; init; }

    /// <summary>The address of the monitor.</summary>
    public required string Monitor { get; init; }

    /// <summary>The name of the VM; null if it has none.</summary>
    public required string? VM { get; init; }
}
