namespace MigrationOps;

/// <summary>What a line of QEMU's log says about a migration.</summary>
public sealed record QemuLogFinding
{
    /// <summary>The line, without the program's name and the time before it.</summary>
    public string Line { get; init; } = "";

    /// <summary>A stable name of the kind of message, such as UnknownSection or BadConfigData; Unknown for what is not in the table.</summary>
    public string Kind { get; init; } = "";

    /// <summary>True if the line alone ends a load.</summary>
    public bool Refuses { get; init; }

    /// <summary>True if QEMU completes the load after it, and the guest has lost the device.</summary>
    public bool BreaksDevice { get; init; }

    /// <summary>The device or section that it names, or the one of the lines around it; empty if none does.</summary>
    public string Device { get; init; } = "";

    /// <summary>Which of several devices of that name.</summary>
    public long? InstanceId { get; init; }

    /// <summary>The field, block, byte or queue that it names; empty if none.</summary>
    public string Field { get; init; } = "";

    /// <summary>The value in the stream, as the line gives it; empty if it gives none.</summary>
    public string StreamValue { get; init; } = "";

    /// <summary>The value at the destination, as the line gives it; empty if it gives none.</summary>
    public string LocalValue { get; init; } = "";

    /// <summary>Where the device's state begins in the stream that was given, in bytes from the stream's first byte.</summary>
    public long? Offset { get; init; }

    /// <summary>What it means.</summary>
    public string Meaning { get; init; } = "";

    /// <summary>What usually helps.</summary>
    public string RecommendedAction { get; init; } = "";

    /// <summary>What the given streams show to differ in that device.</summary>
    public string[] Differences { get; init; } = [];

    /// <summary>A line for the console.</summary>
    public override string ToString() => $"{Kind}{(Device.Length > 0 ? $" in {Device}" : "")}: {Meaning}";
}
