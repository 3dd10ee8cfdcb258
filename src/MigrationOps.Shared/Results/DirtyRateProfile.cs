namespace MigrationOps;

/// <summary>How a VM's memory was measured.</summary>
public enum DirtyRateMode
{
    /// <summary>Checksums of a sample of pages: cheap, any VM; an estimate.</summary>
    PageSampling,

    /// <summary>The dirty log: exact, slows the guest's writes meanwhile. KVM only.</summary>
    DirtyBitmap,

    /// <summary>KVM's dirty ring, if the VM was started with one: exact.</summary>
    DirtyRing,
}

/// <summary>One measurement of a dirty rate.</summary>
public sealed record DirtyRateWindow
{
    /// <summary>How long was measured.</summary>
    public required TimeSpan Window { get; init; }

    /// <summary>Memory that was written within it, in bytes; a page counts once.</summary>
    public required long Bytes { get; init; }

    /// <summary>The same per second, as QEMU reports it, in bytes.</summary>
    public required long BytesPerSecond { get; init; }

    /// <summary>The measurement in one line.</summary>
    public override string ToString() => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{Window.TotalSeconds:0.###} s: {BytesPerSecond / 1048576.0:0.#} MiB/s");
}

/// <summary>
/// How fast a VM writes its memory, over windows of several lengths, with the curve through them: within a time t it writes
/// WorkingSetBytes x (1 - exp(-t / TimeConstant)) + SteadyBytesPerSecond x t different bytes.
/// </summary>
public sealed record DirtyRateProfile
{
    /// <summary>The name of the VM; null if it has none.</summary>
    public required string? VM { get; init; }

    /// <summary>The address of its monitor.</summary>
    public required string Monitor { get; init; }

    /// <summary>How it was measured.</summary>
    public required DirtyRateMode Mode { get; init; }

    /// <summary>Pages per GiB that were looked at; 0 where all were.</summary>
    public required int SamplePages { get; init; }

    /// <summary>The memory of the guest in bytes; null if unknown.</summary>
    public required long? MemoryBytes { get; init; }

    /// <summary>What was measured, by window.</summary>
    public required DirtyRateWindow[] Windows { get; init; }

    /// <summary>Memory that is written again and again, in bytes.</summary>
    public required double WorkingSetBytes { get; init; }

    /// <summary>How fast that is gone through once.</summary>
    public required TimeSpan TimeConstant { get; init; }

    /// <summary>What is written beside it and only once, in bytes per second.</summary>
    public required double SteadyBytesPerSecond { get; init; }

    /// <summary>How far the measurements are from the curve: the root of the mean square, as a part of what was measured.</summary>
    public required double FitError { get; init; }

    /// <summary>When the measurement began (UTC).</summary>
    public required DateTime TakenAt { get; init; }
}
