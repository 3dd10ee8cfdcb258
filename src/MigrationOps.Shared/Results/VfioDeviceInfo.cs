namespace MigrationOps;

/// <summary>What a VFIO device of this host can do in a migration.</summary>
public sealed record VfioDeviceInfo
{
    /// <summary>The device node.</summary>
    public required string Path { get; init; }

    /// <summary>True if the device's driver can move its state.</summary>
    public required bool Migratable { get; init; }

    /// <summary>What it can do: STOP_COPY, P2P, PRE_COPY.</summary>
    public required string[] Flags { get; init; }

    /// <summary>The state it is in, by the kernel's name; empty if it cannot migrate.</summary>
    public required string State { get; init; }

    /// <summary>Bytes that it would give now when it is stopped, about; null if the driver does not say.</summary>
    public long? StopCopySize { get; init; }
}
