namespace MigrationOps;

/// <summary>A VFIO device that was brought back to RUNNING.</summary>
public sealed record VfioStateChange
{
    /// <summary>The device as it was opened.</summary>
    public required string Path { get; init; }

    /// <summary>The state it was found in, by the kernel's name.</summary>
    public required string Before { get; init; }

    /// <summary>The state it is in now.</summary>
    public required string After { get; init; }

    /// <summary>True if it was reset and holds no state any more; false if it runs on with the state that it had.</summary>
    public required bool WasReset { get; init; }
}
