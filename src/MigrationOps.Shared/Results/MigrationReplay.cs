namespace MigrationOps;

/// <summary>An archived migration that a target has loaded.</summary>
public sealed record MigrationReplay
{
    /// <summary>The archive's folder.</summary>
    public required string Archive { get; init; }

    /// <summary>The target.</summary>
    public required string Peer { get; init; }

    /// <summary>Machine type of the source.</summary>
    public required string Machine { get; init; }

    /// <summary>Number of multifd channels.</summary>
    public required int Channels { get; init; }

    /// <summary>Names of the VFIO devices whose state was sent.</summary>
    public required string[] Devices { get; init; }

    /// <summary>Bytes sent over all connections.</summary>
    public required long Bytes { get; init; }

    /// <summary>True if the archive was verified whole before the first byte went out.</summary>
    public required bool Verified { get; init; }

    /// <summary>From the first byte to the target's word that it succeeded.</summary>
    public required TimeSpan Duration { get; init; }

    /// <summary>Bytes in a second; 0 if it took no measurable time.</summary>
    public double Throughput => Duration > TimeSpan.Zero ? Bytes / Duration.TotalSeconds : 0;
}
