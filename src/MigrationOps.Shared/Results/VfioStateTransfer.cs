namespace MigrationOps;

/// <summary>The state of one VFIO device, received, sent, saved or restored.</summary>
public sealed record VfioStateTransfer
{
    /// <summary>Name of the device's section, such as <c>0000:00:04.0/vfio</c>.</summary>
    public required string IdStr { get; init; }

    /// <summary>Number among the sections of that name.</summary>
    public required long InstanceId { get; init; }

    /// <summary>What was done: Receive, Send, Save or Restore.</summary>
    public required string Direction { get; init; }

    /// <summary>Packets over multifd channels, the config packet included.</summary>
    public required long Packets { get; init; }

    /// <summary>Bytes of raw data in order: the pre-copy part included, framing and config state not.</summary>
    public required long Bytes { get; init; }

    /// <summary>Bytes of it that were taken while the device ran; received, they came in the main stream.</summary>
    public long PrecopyBytes { get; init; }

    /// <summary>Packets that came before one of a lower index.</summary>
    public long OutOfOrder { get; init; }

    /// <summary>The most bytes that waited at one time for a packet before them.</summary>
    public long MaxQueuedBytes { get; init; }

    /// <summary>Bytes that waited in the spill file.</summary>
    public long SpilledBytes { get; init; }

    /// <summary>Length of the config state in bytes, markers included.</summary>
    public required long ConfigBytes { get; init; }

    /// <summary>SHA-256 of the raw data in lower-case hexadecimal.</summary>
    public string? Sha256 { get; init; }

    /// <summary>The state file, or the device that it was loaded into; null if there is none.</summary>
    public string? Path { get; init; }

    /// <summary>The other side: a URI or a device.</summary>
    public string? Peer { get; init; }

    /// <summary>The state that the device of this host was left in, by the kernel's name; null where none took part.</summary>
    public string? DeviceState { get; init; }

    /// <summary>The folder with the whole migration, if it was kept.</summary>
    public string? Archive { get; init; }

    /// <summary>From the first byte of the device to the last.</summary>
    public required TimeSpan Duration { get; init; }

    /// <summary>Bytes in a second; 0 if it took no measurable time.</summary>
    public double Throughput => Duration > TimeSpan.Zero ? Bytes / Duration.TotalSeconds : 0;

    /// <summary>What was accepted though it should not be.</summary>
    public string[] Warnings { get; init; } = [];
}
