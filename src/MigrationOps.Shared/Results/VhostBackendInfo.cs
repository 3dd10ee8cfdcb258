namespace MigrationOps;

/// <summary>What a vhost-user back-end says of itself.</summary>
public sealed record VhostBackendInfo
{
    /// <summary>Its socket.</summary>
    public required string SocketPath { get; init; }

    /// <summary>Its process in words.</summary>
    public required string Peer { get; init; }

    /// <summary>The command name of its process, or null if it cannot be seen.</summary>
    public required string? PeerName { get; init; }

    /// <summary>Its process id; 0 if it lives in another pid namespace.</summary>
    public required int PeerPid { get; init; }

    /// <summary>The user id of its process.</summary>
    public required uint PeerUid { get; init; }

    /// <summary>True if it can transfer its internal state.</summary>
    public required bool DeviceState { get; init; }

    /// <summary>How many queues it has.</summary>
    public required ulong Queues { get; init; }

    /// <summary>Its virtio features by name.</summary>
    public required string[] Features { get; init; }

    /// <summary>Its protocol features by name.</summary>
    public required string[] ProtocolFeatures { get; init; }
}
