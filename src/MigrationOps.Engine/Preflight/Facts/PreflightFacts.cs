namespace MigrationOps.Engine.Preflight;

/// <summary>
/// Everything that the checks may know: read once, from both monitors and the hosts, and not changed any more.
/// </summary>
internal sealed record PreflightFacts
{
    /// <summary>The VM that is to be migrated.</summary>
    internal required QemuFacts Source { get; init; }

    /// <summary>The QEMU that waits for it; null if the target is a host, or if it could not be asked.</summary>
    internal QemuFacts? Target { get; init; }

    /// <summary>Why the target's monitor could not be asked; null if it could, or if there is none.</summary>
    internal MigrationOpsException? TargetFailure { get; init; }

    /// <summary>The record of the host on which the VM is to run, if one was given.</summary>
    internal QemuHost? Host { get; init; }

    /// <summary>The source's host; null if its process is not on this one.</summary>
    internal HostFacts? SourceHost { get; init; }

    /// <summary>The host on which the VM is to run; null if nothing is known of it.</summary>
    internal HostFacts? TargetHost { get; init; }

    /// <summary>The way of the stream.</summary>
    internal TransportFacts Transport { get; init; } = new();

    /// <summary>The images of the source by the names that its QEMU has for them; those of another host are missing.</summary>
    internal IReadOnlyDictionary<string, FileFacts> SourceFiles { get; init; } = new Dictionary<string, FileFacts>();

    /// <summary>The same of the target.</summary>
    internal IReadOnlyDictionary<string, FileFacts> TargetFiles { get; init; } = new Dictionary<string, FileFacts>();

    /// <summary>What both programs can load; null if one of them could not be asked.</summary>
    internal LayoutFacts? Layouts { get; init; }

    /// <summary>The migration that is meant.</summary>
    internal required PreflightOptions Options { get; init; }

    /// <summary>What errors and reports call the target.</summary>
    internal string TargetName => Target?.Name ?? TargetFailure?.Target?.ToString() ?? Host?.Name ?? "target";
}
