namespace MigrationOps.Engine.Vhost;

/// <summary>What the embedded back-end offers and does.</summary>
public sealed record VhostBackendOptions
{
    /// <summary>Where it listens.</summary>
    public required string SocketPath { get; init; }

    /// <summary>Mode of the socket's file; null for what the umask leaves. A front-end needs the right to write to it.</summary>
    public UnixFileMode? SocketMode { get; init; }

    /// <summary>Group of the socket's file, by name or number; null for this process's group.</summary>
    public string? SocketGroup { get; init; }

    /// <summary>Its internal state.</summary>
    public required BackendState State { get; init; }

    /// <summary>The virtio features that it offers.</summary>
    public ulong Features { get; init; } = (1UL << 32) | VhostFeatures.ProtocolFeatures;

    /// <summary>The protocol features that it offers.</summary>
    public ulong ProtocolFeatures { get; init; } = VhostFeatures.MultiQueue | VhostFeatures.ReplyAck | VhostFeatures.DeviceState;

    /// <summary>How many queues it has.</summary>
    public ulong Queues { get; init; } = 1;

    /// <summary>True to answer SET_DEVICE_STATE_FD with a pipe of its own.</summary>
    public bool OwnDescriptor { get; init; }

    /// <summary>What it does wrong.</summary>
    public VhostBackendFault Fault { get; init; } = VhostBackendFault.None;
}
