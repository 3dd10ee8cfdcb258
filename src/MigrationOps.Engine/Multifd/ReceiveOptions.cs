using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Multifd;

/// <summary>Bounds of a receipt.</summary>
internal sealed record ReceiveOptions
{
    /// <summary>Number of multifd channels; null to take as many as the source opens.</summary>
    public int? Channels { get; init; }

    /// <summary>Size of a target page in bytes, if the stream does not say it.</summary>
    public int PageSize { get; init; } = 4096;

    /// <summary>The largest data of one packet in bytes.</summary>
    public int PacketLimit { get; init; } = 64 * 1024 * 1024;

    /// <summary>Whether the capability switchover-ack is on at the source: only then it is told that the switchover may come.</summary>
    public bool SwitchoverAck { get; init; }

    /// <summary>How many acknowledgements the source waits for.</summary>
    public SwitchoverAckCount SwitchoverAckCount { get; init; }

    /// <summary>Told once, on the main channel's thread, that the source iterates without anything to send: it waits for an acknowledgement.</summary>
    internal Action? SourceWaits { get; init; }
}

/// <summary>What one channel carried.</summary>
/// <param name="Id">Number of the channel.</param>
/// <param name="Bytes">All bytes.</param>
/// <param name="RamPackets">Packets of RAM, SYNC marks included.</param>
/// <param name="SyncPackets">SYNC marks.</param>
/// <param name="NormalPages">Pages with data.</param>
/// <param name="ZeroPages">Pages without data.</param>
/// <param name="DevicePackets">Packets of device state.</param>
internal sealed record ChannelSummary(
    int Id, long Bytes, long RamPackets, long SyncPackets, long NormalPages, long ZeroPages, long DevicePackets);

/// <summary>What a migration carried.</summary>
/// <param name="MainBytes">Bytes of the main stream; 0 if there was none.</param>
/// <param name="Machine">Machine type of the source.</param>
/// <param name="Uuid">UUID of the virtual machine; zeros if it has none.</param>
/// <param name="PageSize">Size of a target page in bytes.</param>
/// <param name="Compression">Compression of the pages.</param>
/// <param name="Channels">What each channel carried, by id.</param>
/// <param name="Warnings">What was accepted though it should not be.</param>
internal sealed record MigrationSummary(
    long MainBytes, string? Machine, Guid Uuid, int PageSize, PacketFlags Compression,
    IReadOnlyList<ChannelSummary> Channels, IReadOnlyList<string> Warnings);
