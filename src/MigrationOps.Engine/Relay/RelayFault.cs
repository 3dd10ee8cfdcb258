namespace MigrationOps.Engine.Relay;

/// <summary>What a relay does to a migration, on order.</summary>
internal enum RelayFaultKind
{
    /// <summary>Close every connection, on both sides.</summary>
    Break,

    /// <summary>Close the connection that the point is on, on both sides.</summary>
    BreakChannel,

    /// <summary>Pass nothing on any more, on any connection in any direction, and keep everything open, until it is released.</summary>
    Blackhole,

    /// <summary>Pass nothing on any more in this direction of this connection until it is released.</summary>
    Hold,

    /// <summary>Wait for a time, in this direction of this connection.</summary>
    Delay,

    /// <summary>Change bytes.</summary>
    Damage,

    /// <summary>Leave the element out.</summary>
    Drop,
}

/// <summary>An element at which a fault can strike.</summary>
internal enum RelayPoint
{
    /// <summary>A connection's first byte.</summary>
    Start,

    /// <summary>A byte of a connection.</summary>
    Byte,

    /// <summary>A section of the main stream.</summary>
    Section,

    /// <summary>A packet of a multifd channel.</summary>
    Packet,

    /// <summary>A packet of device state of a multifd channel.</summary>
    DevicePacket,

    /// <summary>The first thing that a source sends when its guest has stopped: SWITCHOVER_START, an END section, or postcopy's package.</summary>
    Switchover,

    /// <summary>The end mark of the main stream, and the description behind it.</summary>
    EndOfStream,

    /// <summary>Postcopy's package of device state; its last command starts the guest at the target.</summary>
    PostcopyPackage,

    /// <summary>PONG on the return path.</summary>
    Pong,

    /// <summary>SWITCHOVER_ACK on the return path.</summary>
    SwitchoverAck,

    /// <summary>A request for pages on the return path.</summary>
    PageRequest,

    /// <summary>RESUME_ACK on the return path.</summary>
    ResumeAck,

    /// <summary>SHUT on the return path: the target's last word.</summary>
    Shut,
}

/// <summary>On which side of its element a fault strikes.</summary>
internal enum RelayMoment
{
    /// <summary>When nothing of the element has been passed on.</summary>
    Before,

    /// <summary>When all of it has been passed on.</summary>
    After,
}

/// <summary>A fault to order: what happens, and at which element. It strikes once.</summary>
/// <param name="Kind">What happens.</param>
/// <param name="Point">At which element.</param>
internal sealed record RelayFault(RelayFaultKind Kind, RelayPoint Point)
{
    /// <summary>Before the element or after it. What changes or leaves out an element does not look at it.</summary>
    public RelayMoment Moment { get; init; } = RelayMoment.After;

    /// <summary>Which of the elements that fit, from 1.</summary>
    public int Number { get; init; } = 1;

    /// <summary>The number of the multifd channel; null for any. For <see cref="RelayPoint.Start"/> and <see cref="RelayPoint.Byte"/> null is the main channel.</summary>
    public int? Channel { get; init; }

    /// <summary>The idstr of the sections that fit; null for any.</summary>
    public string? Section { get; init; }

    /// <summary>For <see cref="RelayPoint.Byte"/> which byte, for <see cref="RelayFaultKind.Damage"/> which byte of the element.</summary>
    public long Byte { get; init; }

    /// <summary>What the bytes are changed to; null inverts one.</summary>
    public byte[]? Bytes { get; init; }

    /// <summary>How long a delay takes.</summary>
    public TimeSpan Time { get; init; }

    /// <summary>True if its element is not passed on as it was.</summary>
    internal bool ChangesElement => Kind is RelayFaultKind.Damage or RelayFaultKind.Drop;

    /// <inheritdoc/>
    public override string ToString()
        => $"{Kind} {(ChangesElement ? "" : $"{Moment} ")}{Point}"
            + (Point == RelayPoint.Byte || Kind == RelayFaultKind.Damage ? $" byte {Byte}" : "")
            + (Channel is { } id ? $" of channel {id}" : "") + (Section is null ? "" : $" '{Section}'") + (Number == 1 ? "" : $" number {Number}");
}
