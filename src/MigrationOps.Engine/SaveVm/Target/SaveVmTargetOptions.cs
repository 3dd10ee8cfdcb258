namespace MigrationOps.Engine.SaveVm;

/// <summary>How a migration is driven on the target.</summary>
internal sealed record SaveVmTargetOptions
{
    /// <summary>What errors and the result call the other side.</summary>
    public string Uri { get; init; } = "";

    /// <summary>The machine type that the stream must be of; null takes any.</summary>
    public string? MachineType { get; init; }

    /// <summary>The page size, as a power of two, that a stream may name; null takes any.</summary>
    public int? PageBits { get; init; }

    /// <summary>Capabilities that a stream may name beside those that change nothing for the handlers here.</summary>
    public IReadOnlyCollection<string> Capabilities { get; init; } = [];

    /// <summary>
    /// The source waits for the devices' word before it stops: those are asked whether they need it, and the
    /// acknowledgement is sent once all of them have approved. The same must be set on the source.
    /// </summary>
    public bool SwitchoverAck { get; init; }

    /// <summary>How many acknowledgements that are.</summary>
    public SwitchoverAckCount SwitchoverAckCount { get; init; }

    /// <summary>
    /// Multifd channels that the source opens beside the main connection. As with QEMU nothing in the stream says it, so both
    /// sides are told; the target waits for all of them before it loads.
    /// </summary>
    public int MultifdChannels { get; init; }

    /// <summary>True if the connection can carry answers: a socket. Without, a stream that asks for the return path is refused.</summary>
    public bool ReturnPath { get; init; }

    /// <summary>
    /// Refuses a source that has not opened the return path before its first section: such a source never learns whether its state was loaded,
    /// and gives its device up on its own word.
    /// </summary>
    public bool RequireReturnPath { get; init; }

    /// <summary>Takes part in postcopy if the source switches to it. Without, a stream that announces it is refused.</summary>
    public bool Postcopy { get; init; }

    /// <summary>The page sizes of all memory here, in one mask, which a source must announce; null takes any.</summary>
    public long? RamPageSizes { get; init; }

    /// <summary>The largest package of device state, in bytes, that is taken at the switch to postcopy; it is held in memory.</summary>
    public int MaxPackage { get; init; } = 256 << 20;

    /// <summary>
    /// Runs the device: in postcopy when the source says so, while the rest still arrives; otherwise at the end, after the source was
    /// told. Called once, on the thread that has loaded the device state.
    /// </summary>
    public Action? StartDevice { get; init; }

    /// <summary>
    /// A file that keeps the sections of devices that are not registered here; null refuses them. It is a migration stream of
    /// those sections alone, appears whole or not at all, and before the source is told that all is well. The stream must
    /// carry its description, against which the lengths of the kept states are checked. Not with <see cref="Postcopy"/>.
    /// </summary>
    public string? SpoolPath { get; init; }

    /// <summary>Told after each section how many bytes have come.</summary>
    public Action<long>? OnProgress { get; init; }
}
