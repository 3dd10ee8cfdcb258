using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Relay;

/// <summary>What a relay connects, and what it does besides.</summary>
internal sealed record RelayOptions
{
    /// <summary>Where the source connects: tcp or unix, port 0 for any free one.</summary>
    public required Endpoint Listen { get; init; }

    /// <summary>Where the target listens.</summary>
    public required Endpoint Target { get; init; }

    /// <summary>TLS towards the source. Without it a source that speaks TLS is passed through unread.</summary>
    public TransportSecurity ListenSecurity { get; init; } = TransportSecurity.Default;

    /// <summary>TLS towards the target.</summary>
    public TransportSecurity TargetSecurity { get; init; } = TransportSecurity.Default;

    /// <summary>The most bytes in a second towards the target, over all channels together; null for no limit.</summary>
    public long? BytesPerSecond { get; init; }

    /// <summary>A folder for an archive of the migration; null for none.</summary>
    public string? Archive { get; init; }

    /// <summary>What to do to the migration.</summary>
    public IReadOnlyList<RelayFault> Faults { get; init; } = [];

    /// <summary>
    /// How long a connection to the target and a TLS handshake may take, and how long nothing may move while something is known to be
    /// missing. A migration that stands still for another reason - a source that waits before its switchover - is left alone.
    /// </summary>
    public TimeSpan Timeout { get; init; } = TransferScope.DefaultTimeout;
}
