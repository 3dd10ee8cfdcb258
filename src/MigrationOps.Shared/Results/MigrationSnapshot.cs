namespace MigrationOps;

/// <summary>A snapshot in a qcow2 image. Path and Snapshot bind to the cmdlets that read a stream.</summary>
public sealed record MigrationSnapshot
{
    /// <summary>The image.</summary>
    public string Path { get; init; } = "";

    /// <summary>The snapshot's name.</summary>
    public string Snapshot { get; init; } = "";

    /// <summary>Its id in the image: a number as text.</summary>
    public string Id { get; init; } = "";

    /// <summary>When it was taken, in local time.</summary>
    public DateTime Date { get; init; }

    /// <summary>Bytes of VM state; 0 for a snapshot of the disk alone, or if the state lies in another disk of the VM.</summary>
    public long StateSize { get; init; }

    /// <summary>Bytes of the disk when it was taken.</summary>
    public long DiskSize { get; init; }

    /// <summary>How long the VM had run.</summary>
    public TimeSpan VmClock { get; init; }
}
