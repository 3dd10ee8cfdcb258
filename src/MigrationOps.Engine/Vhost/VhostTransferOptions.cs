using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vhost;

/// <summary>What a save or restore of a back-end's state works on.</summary>
public sealed record VhostTransferOptions
{
    /// <summary>The back-end's socket.</summary>
    public required string SocketPath { get; init; }

    /// <summary>The other side: a file, a socket or a descriptor. Saving connects, restoring listens.</summary>
    public required Endpoint Endpoint { get; init; }

    /// <summary>True for bare bytes instead of the state format.</summary>
    public bool Raw { get; init; }

    /// <summary>False to leave the SHA-256 out when saving: faster, but damage can then not be found later.</summary>
    public bool ComputeHash { get; init; } = true;

    /// <summary>When restoring: the SHA-256 that the state must have, lower-case hexadecimal; null for any.</summary>
    public string? ExpectedSha256 { get; init; }

    /// <summary>TLS and plaintext rules for the endpoint.</summary>
    public TransportSecurity Security { get; init; } = TransportSecurity.Default;

    /// <summary>Called with the bytes so far and the total (null if unknown), on the transferring thread; must be quick.</summary>
    public Action<long, long?>? Progress { get; init; }

    /// <summary>Called once the address is listened on, with the port that the system chose.</summary>
    public Action<Endpoint>? Listening { get; init; }
}
