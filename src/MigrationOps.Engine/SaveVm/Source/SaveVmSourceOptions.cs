namespace MigrationOps.Engine.SaveVm;

/// <summary>How a migration is driven from the source.</summary>
internal sealed record SaveVmSourceOptions
{
    /// <summary>The most multifd channels: their id has 8 bits.</summary>
    public const int MostMultifdChannels = 255;

    /// <summary>What errors and the result call the other side.</summary>
    public string Uri { get; init; } = "";

    /// <summary>The machine type in the stream's configuration; null writes no configuration.</summary>
    public string? MachineType { get; init; } = "none";

    /// <summary>Bytes per second while the device runs; null for no limit.</summary>
    public long? MaxBandwidth { get; init; }

    /// <summary>How long the device may stand still: pending bytes that fit into it are sent after the stop.</summary>
    public TimeSpan DowntimeLimit { get; init; } = TimeSpan.FromMilliseconds(300);

    /// <summary>Multifd channels beside the main connection, for devices that send packets; the target must be told the same number.</summary>
    public int MultifdChannels { get; init; }

    /// <summary>Opens the return path, so that the target can answer; the connection must be a socket.</summary>
    public bool ReturnPath { get; init; }

    /// <summary>The device is not stopped before the target allows it. Needs the return path, and the same on the target.</summary>
    public bool SwitchoverAck { get; init; }

    /// <summary>How many acknowledgements that are.</summary>
    public SwitchoverAckCount SwitchoverAckCount { get; init; }

    /// <summary>Announces the switchover in the stream, as machine types from 10.0 do.</summary>
    public bool SwitchoverStart { get; init; } = true;

    /// <summary>Appends the JSON description of the FULL sections, which QEMU's tools need to read the stream.</summary>
    public bool Description { get; init; } = true;

    /// <summary>Page size in the description.</summary>
    public int PageSize { get; init; } = 4096;

    /// <summary>Rounds after which a migration that has not converged is given up; null for no limit.</summary>
    public int? MaxRounds { get; init; }

    /// <summary>Time after which a migration that has not converged is given up; null for no limit.</summary>
    public TimeSpan? MaxDuration { get; init; }

    /// <summary>
    /// Time after which a migration is given up whose pending bytes have not fallen below their lowest number; null for no limit. A
    /// device that is large falls with every byte that is sent; one that changes faster than it is sent does not.
    /// </summary>
    public TimeSpan? MaxStall { get; init; }

    /// <summary>How long one turn of iterations lasts: the time over which bandwidth is limited and measured.</summary>
    public TimeSpan Turn { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>
    /// Continues as postcopy when the device does not fit into the downtime after <see cref="PostcopyAfter"/> rounds: the target runs it,
    /// and what is left follows. Needs the return path, and the same on the target.
    /// </summary>
    public bool Postcopy { get; init; }

    /// <summary>Rounds of pre-copy before the switch to postcopy.</summary>
    public int PostcopyAfter { get; init; } = 1;

    /// <summary>Bytes per second after the switch to postcopy; null for no limit.</summary>
    public long? MaxPostcopyBandwidth { get; init; }

    /// <summary>
    /// The page sizes of all memory, in one mask, as POSTCOPY_ADVISE tells them. Null means <see cref="PageSize"/> if a device 'ram'
    /// is registered, and no memory otherwise.
    /// </summary>
    public long? RamPageSizes { get; init; }

    /// <summary>The most bytes of device state that are collected in memory at the switch to postcopy.</summary>
    public int MaxPackage { get; init; } = 256 << 20;

    /// <summary>Stops the device, so that its state no longer changes. Called once, on the driver's thread.</summary>
    public Action? StopDevice { get; init; }

    /// <summary>
    /// Resumes the device after a migration that failed once it had been stopped. Called after the cleanups, and never when
    /// the target may run the device.
    /// </summary>
    public Action? ResumeDevice { get; init; }

    /// <summary>Told after each round.</summary>
    public Action<MigrationRound>? OnRound { get; init; }

    /// <summary>Told after each turn how many bytes were sent and how many are pending, null where that is not known.</summary>
    public Action<long, long?>? OnProgress { get; init; }
}
