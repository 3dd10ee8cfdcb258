using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Preflight;

/// <summary>The migration that is meant, and what of the pre-flight is wanted.</summary>
internal sealed record PreflightOptions
{
    /// <summary>How the memory is to come to the target.</summary>
    internal QemuMigrationMode Mode { get; init; }

    /// <summary>Multifd channels that are to be used; 0 for none.</summary>
    internal int Channels { get; init; }

    /// <summary>Bytes per second that the migration may take; null for what QEMU is set to.</summary>
    internal long? MaxBandwidth { get; init; }

    /// <summary>The downtime that is allowed; null for what QEMU is set to.</summary>
    internal TimeSpan? DowntimeLimit { get; init; }

    /// <summary>The VM's dirty rate, if it was measured.</summary>
    internal DirtyRateProfile? DirtyRate { get; init; }

    /// <summary>Where the target is to listen for the stream; null for any free port of its host.</summary>
    internal Endpoint? Listen { get; init; }

    /// <summary>The folder of TLS credentials that both sides are to use; null for none.</summary>
    internal string? TlsCredential { get; init; }

    /// <summary>True to let the stream go over a network without TLS.</summary>
    internal bool AllowPlaintext { get; init; }

    /// <summary>True if the disks are copied with the VM, so that the target need not reach those of the source.</summary>
    internal bool CopyDisk { get; init; }

    /// <summary>Names of checks that are left out, with wildcards.</summary>
    internal IReadOnlyList<string> Skip { get; init; } = [];
}
