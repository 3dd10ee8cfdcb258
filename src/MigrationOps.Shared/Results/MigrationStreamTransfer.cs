namespace MigrationOps;

/// <summary>Which way a migration stream was driven.</summary>
public enum MigrationStreamDirection
{
    /// <summary>The handlers of this side saved.</summary>
    Send = 0,

    /// <summary>The handlers of this side loaded.</summary>
    Receive = 1,
}

/// <summary>A finished migration of registered handlers.</summary>
public sealed record MigrationStreamTransfer
{
    /// <summary>Which side this is.</summary>
    public required MigrationStreamDirection Direction { get; init; }

    /// <summary>The other end, as an endpoint URI.</summary>
    public required string Uri { get; init; }

    /// <summary>The machine type in the stream's configuration; empty without one.</summary>
    public required string MachineType { get; init; }

    /// <summary>Bytes of the main stream, framing included.</summary>
    public required long Bytes { get; init; }

    /// <summary>Multifd channels beside the main stream.</summary>
    public int MultifdChannels { get; init; }

    /// <summary>Packets of device state over the multifd channels.</summary>
    public long ChannelPackets { get; init; }

    /// <summary>Bytes over the multifd channels, framing included.</summary>
    public long ChannelBytes { get; init; }

    /// <summary>Sections of every kind.</summary>
    public required long Sections { get; init; }

    /// <summary>The devices that had a section, as "idstr" or "idstr/instance".</summary>
    public required string[] Devices { get; init; }

    /// <summary>Those of them that were not registered on the target and are kept in its spool file; empty on the source.</summary>
    public string[] Spooled { get; init; } = [];

    /// <summary>Rounds of iteration; 0 on the target, which is not told.</summary>
    public required int Rounds { get; init; }

    /// <summary>True if the target allowed the switchover; false also where no device had asked for it.</summary>
    public required bool SwitchoverAcknowledged { get; init; }

    /// <summary>
    /// True once the other side is known to have everything: always on the target; on the source with a return path, if no device's state
    /// went over multifd channels. A QEMU says that it has loaded everything also when it could not load such a device.
    /// </summary>
    public required bool Confirmed { get; init; }

    /// <summary>When it began.</summary>
    public required DateTime StartedAt { get; init; }

    /// <summary>How long it took, setup and confirmation included.</summary>
    public required TimeSpan Duration { get; init; }

    /// <summary>Where the time went while no device ran.</summary>
    public required MigrationDowntime Downtime { get; init; }

    /// <summary>What went wrong without being the migration's failure: a cleanup that threw, a description that was cut.</summary>
    public required string[] Warnings { get; init; }

    /// <summary>True if it switched to postcopy: the device ran on the target before everything had arrived.</summary>
    public bool Postcopy { get; init; }

    /// <summary>How often it was resumed after a lost connection.</summary>
    public int Recoveries { get; init; }

    /// <summary>
    /// Where the VM may run: the target, unless the source alone knows of the migration - without a return path it cannot
    /// tell whether the stream was loaded.
    /// </summary>
    public MigrationOwner Owner { get; init; } = MigrationOwner.Target;

    /// <summary>Bytes per second over the whole duration.</summary>
    public double Throughput => Duration > TimeSpan.Zero ? (Bytes + ChannelBytes) / Duration.TotalSeconds : 0;
}

/// <summary>The named parts of a downtime, as one side saw it.</summary>
public sealed record MigrationDowntime
{
    /// <summary>Source: stopping the device. Target: the handlers of SWITCHOVER_START.</summary>
    public required TimeSpan Switchover { get; init; }

    /// <summary>The END sections: what iterating devices had left.</summary>
    public required TimeSpan FinalIteration { get; init; }

    /// <summary>The FULL sections: devices that are saved at once.</summary>
    public required TimeSpan State { get; init; }

    /// <summary>Source: pushing out the last bytes. Target: waiting for bytes, which the other parts then leave out.</summary>
    public required TimeSpan Send { get; init; }

    /// <summary>Source: until the target confirmed. Target: from the end mark until the source was told.</summary>
    public required TimeSpan Complete { get; init; }

    /// <summary>All parts together.</summary>
    public TimeSpan Total => Switchover + FinalIteration + State + Send + Complete;
}

/// <summary>One round of a migration: one pass over what was pending when it began.</summary>
public sealed record MigrationRound
{
    /// <summary>Its number, from 1.</summary>
    public required int Round { get; init; }

    /// <summary>Bytes sent in it.</summary>
    public required long Bytes { get; init; }

    /// <summary>Bytes of the whole stream so far.</summary>
    public required long TotalBytes { get; init; }

    /// <summary>Bytes pending after it that must arrive before the target starts.</summary>
    public required long MustPrecopy { get; init; }

    /// <summary>Bytes pending after it that may also arrive later.</summary>
    public required long CanPostcopy { get; init; }

    /// <summary>True if the pending bytes are exact, false if they are estimated.</summary>
    public required bool Exact { get; init; }

    /// <summary>Bytes per second as measured.</summary>
    public required long Bandwidth { get; init; }

    /// <summary>Pending bytes at or below which the device is stopped: bandwidth times downtime limit.</summary>
    public required long Threshold { get; init; }

    /// <summary>Time since the migration began.</summary>
    public required TimeSpan Elapsed { get; init; }
}
