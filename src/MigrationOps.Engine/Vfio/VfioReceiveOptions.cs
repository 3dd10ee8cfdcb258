using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>What to receive, and where it goes.</summary>
internal sealed record VfioReceiveOptions
{
    /// <summary>Where to listen.</summary>
    public required Endpoint Endpoint { get; init; }

    /// <summary>TLS, or plain text.</summary>
    public TransportSecurity Security { get; init; } = TransportSecurity.Default;

    /// <summary>Folder for a state file per device, or null.</summary>
    public string? Destination { get; init; }

    /// <summary>Folder for the whole migration, or null.</summary>
    public string? Archive { get; init; }

    /// <summary>A VFIO device that is loaded with the state, or null.</summary>
    public VfioDevice? Device { get; init; }

    /// <summary>Name of the section that goes into <see cref="Device"/>; null if there is only one.</summary>
    public string? IdStr { get; init; }

    /// <summary>Bounds of the receipt.</summary>
    public Multifd.ReceiveOptions Receive { get; init; } = new();

    /// <summary>Memory for packets that wait, in bytes.</summary>
    public long MemoryBudget { get; init; } = 256L * 1024 * 1024;

    /// <summary>Called once the address is listened on, with the port that the system chose.</summary>
    public Action<Endpoint>? Listening { get; init; }
}
