namespace MigrationOps;

/// <summary>Which way a back-end's state moves.</summary>
public enum VhostTransferDirection
{
    /// <summary>Out of the back-end.</summary>
    Save = 0,

    /// <summary>Into the back-end.</summary>
    Load = 1,
}

/// <summary>A finished transfer of a vhost-user back-end's state.</summary>
public sealed record VhostStateTransfer
{
    /// <summary>The back-end, as far as the system tells: program, pid, uid.</summary>
    public required string Device { get; init; }

    /// <summary>Which way the state moved.</summary>
    public required VhostTransferDirection Direction { get; init; }

    /// <summary>The back-end's socket.</summary>
    public required string SocketPath { get; init; }

    /// <summary>The state file, if one end of the transfer was a file.</summary>
    public string? Path { get; init; }

    /// <summary>The URI, if one end of the transfer was a connection.</summary>
    public string? Uri { get; init; }

    /// <summary>Bytes of raw state, framing left out.</summary>
    public required long Bytes { get; init; }

    /// <summary>Chunks in which they travelled; 0 for raw bytes.</summary>
    public required long Chunks { get; init; }

    /// <summary>SHA-256 of the raw state in lower-case hexadecimal, or null if it was not computed.</summary>
    public required string? Sha256 { get; init; }

    /// <summary>True once the back-end has said that it processed everything.</summary>
    public required bool Checked { get; init; }

    /// <summary>When it began.</summary>
    public required DateTime StartedAt { get; init; }

    /// <summary>How long it took, from the request to the back-end's word that it is done.</summary>
    public required TimeSpan Duration { get; init; }

    /// <summary>Bytes per second over the whole duration.</summary>
    public double Throughput => Duration > TimeSpan.Zero ? Bytes / Duration.TotalSeconds : 0;
}
