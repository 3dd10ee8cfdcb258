using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>Which stream to rehearse, and in which QEMU.</summary>
internal sealed record RehearsalOptions
{
    /// <summary>The stream.</summary>
    public required MigrationStreamInput Input { get; init; }

    /// <summary>The destination's QEMU: a path, or a name in PATH.</summary>
    public required string Program { get; init; }

    /// <summary>The destination's arguments, without the program.</summary>
    public required IReadOnlyList<string> ArgumentList { get; init; }

    /// <summary>What relative paths in the arguments count from.</summary>
    public required string WorkingDirectory { get; init; }

    /// <summary>Leave pages of guest memory out, but for those that devices read while they load.</summary>
    public bool SkipMemory { get; init; }

    /// <summary>How long QEMU may neither take bytes nor answer.</summary>
    public TimeSpan Timeout { get; init; } = Wire.TransferScope.DefaultTimeout;
}
