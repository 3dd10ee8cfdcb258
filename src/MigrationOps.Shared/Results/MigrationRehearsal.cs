namespace MigrationOps;

/// <summary>What a destination's own QEMU said when it loaded a stream in a rehearsal. No guest ran.</summary>
public sealed record MigrationRehearsal
{
    /// <summary>The stream.</summary>
    public string Path { get; init; } = "";

    /// <summary>The QEMU program.</summary>
    public string Program { get; init; } = "";

    /// <summary>Its version.</summary>
    public string Version { get; init; } = "";

    /// <summary>True if QEMU loaded the whole stream and every device is in service.</summary>
    public bool Passed { get; init; }

    /// <summary>A stable name of why it did not, such as BadConfigData; empty if it did.</summary>
    public string Kind { get; init; } = "";

    /// <summary>The section that was refused; empty if none was.</summary>
    public string Section { get; init; } = "";

    /// <summary>Which of several sections of that name.</summary>
    public long? InstanceId { get; init; }

    /// <summary>The field, byte, block or queue that was refused, as QEMU names it; empty if it names none.</summary>
    public string Field { get; init; } = "";

    /// <summary>Where the refused section begins in the stream, in bytes from the stream's first byte.</summary>
    public long? Offset { get; init; }

    /// <summary>What the refusal means.</summary>
    public string Meaning { get; init; } = "";

    /// <summary>What usually helps.</summary>
    public string RecommendedAction { get; init; } = "";

    /// <summary>QEMU's own words, line by line.</summary>
    public string[] QemuOutput { get; init; } = [];

    /// <summary>What the rehearsal had in another way than the destination, where the verdict may depend on it.</summary>
    public string[] Notes { get; init; } = [];

    /// <summary>True if pages of guest memory were left out, but for those that devices read while they load.</summary>
    public bool MemorySkipped { get; init; }

    /// <summary>Bytes that were given to QEMU.</summary>
    public long Bytes { get; init; }

    /// <summary>How long it took, the start of QEMU included.</summary>
    public TimeSpan Duration { get; init; }

    /// <summary>The arguments that QEMU was started with.</summary>
    public string[] ArgumentList { get; init; } = [];

    /// <summary>A line for logs.</summary>
    public override string ToString() => $"{Path} in {Program} {Version}: {(Passed ? "loads" : $"refused ({Kind}{(Section.Length > 0 ? $" in {Section}" : "")})")}";
}
