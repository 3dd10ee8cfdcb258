namespace MigrationOps.Engine.Vfio;

/// <summary>Bounds of the reassembly.</summary>
internal sealed record ReassemblyOptions
{
    /// <summary>Memory for everything that waits for its turn, over all devices, in bytes.</summary>
    public long MemoryBudget { get; init; } = 256L * 1024 * 1024;

    /// <summary>Where packets go that do not fit the budget.</summary>
    public string SpillDirectory { get; init; } = Path.GetTempPath();

    /// <summary>How far an index may be ahead of the next one that is due.</summary>
    public uint Window { get; init; } = 256 * 1024;

    /// <summary>The most devices.</summary>
    public int MaxDevices { get; init; } = 1024;
}

/// <summary>What was received of one device.</summary>
/// <param name="IdStr">Name of the device's section.</param>
/// <param name="InstanceId">Number among the sections of that name.</param>
/// <param name="Packets">Packets over channels, the config packet included.</param>
/// <param name="Bytes">Raw data in order, the pre-copy part included, framing and config state not.</param>
/// <param name="PrecopyBytes">The part that came in the main stream.</param>
/// <param name="OutOfOrder">Packets that came before one of a lower index.</param>
/// <param name="MaxQueuedBytes">The most that waited at one time.</param>
/// <param name="SpilledBytes">What waited in the spill file.</param>
/// <param name="ConfigBytes">Length of the config state, markers included.</param>
/// <param name="Duration">From the first byte to the last.</param>
/// <param name="Warnings">What was accepted though it should not be.</param>
internal sealed record DeviceSummary(
    string IdStr, uint InstanceId, long Packets, long Bytes, long PrecopyBytes, long OutOfOrder, long MaxQueuedBytes,
    long SpilledBytes, int ConfigBytes, TimeSpan Duration, IReadOnlyList<string> Warnings);
