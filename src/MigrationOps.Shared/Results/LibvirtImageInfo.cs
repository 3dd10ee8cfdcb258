namespace MigrationOps;

/// <summary>The head of a save image of libvirt.</summary>
public sealed record LibvirtImageInfo
{
    /// <summary>The domain's name; empty if the XML does not say.</summary>
    public string Name { get; init; } = "";

    /// <summary>The domain's UUID, if the XML has it.</summary>
    public Guid? Uuid { get; init; }

    /// <summary>True if the domain ran when it was saved, so that a restore lets it run.</summary>
    public bool WasRunning { get; init; }

    /// <summary>The version of the image's format.</summary>
    public int Version { get; init; }

    /// <summary>How the stream is stored: raw, gzip, bzip2, xz, lzop, zstd or sparse.</summary>
    public string Compression { get; init; } = "";

    /// <summary>The domain's XML.</summary>
    public string Xml { get; init; } = "";

    /// <summary>A line for the console.</summary>
    public override string ToString()
        => $"{Name} {Uuid}, saved while {(WasRunning ? "running" : "paused")}, {Compression}, version {Version}";
}
