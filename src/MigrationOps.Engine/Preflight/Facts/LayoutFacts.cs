namespace MigrationOps.Engine.Preflight;

/// <summary>What both programs can load, by what they print of themselves (-dump-vmstate).</summary>
internal sealed record LayoutFacts
{
    /// <summary>The names of the source's layouts by device type. A type that is missing has no state of its own.</summary>
    internal required IReadOnlyDictionary<string, string> Source { get; init; }

    /// <summary>The same of the target.</summary>
    internal required IReadOnlyDictionary<string, string> Target { get; init; }

    /// <summary>Where the target could not load what the source writes, by device type, as Compare-MigrationStream tells it.</summary>
    internal required IReadOnlyList<MigrationStreamDifference> Differences { get; init; }

    /// <summary>True if both are the same build, so that there is nothing to compare.</summary>
    internal required bool IsSameBuild { get; init; }
}
