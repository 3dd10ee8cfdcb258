using System.Globalization;

namespace MigrationOps.Engine.Qemu;

/// <summary>Where a packet was found, for the errors about it.</summary>
/// <param name="Device">Name of the device.</param>
/// <param name="Channel">Name of the channel.</param>
/// <param name="Offset">Where the packet starts in the channel, in bytes.</param>
internal readonly record struct PacketPlace(string Device, string Channel, long Offset)
{
    /// <summary>The place of a packet that was read elsewhere, as the caller gives it.</summary>
    internal static PacketPlace Unknown => new("", "", 0);

    /// <summary>Makes the failure.</summary>
    /// <param name="reason">Why.</param>
    /// <param name="what">What is wrong, without the place.</param>
    /// <param name="index">The packet's index, where it is known.</param>
    internal StreamException Fail(StreamError reason, string what, uint? index = null)
        => new(reason, $"{Describe(index)}: {what}.") { Section = Device, Peer = IsUnknown ? null : Channel, ByteOffset = IsUnknown ? null : Offset };

    /// <summary>True if only the device is known.</summary>
    internal bool IsUnknown => Channel.Length == 0;

    /// <summary>The place in words.</summary>
    internal string Describe(uint? index)
        => string.Create(CultureInfo.InvariantCulture, $"{Device}{(index is { } i ? $", packet {i}" : "")}{(IsUnknown ? "" : $" ({Channel}, byte {Offset:N0})")}");
}
