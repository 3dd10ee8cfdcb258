using System.Globalization;

namespace MigrationOps.Engine.Vfio;

/// <summary>Where a packet was found, for the errors about it.</summary>
/// <param name="Device">Name of the device.</param>
/// <param name="Channel">Name of the channel.</param>
/// <param name="Offset">Where the packet starts in the channel, in bytes.</param>
public readonly record struct PacketPlace(string Device, string Channel, long Offset)
{
    /// <summary>The place of a packet that came from somebody who says himself where it was.</summary>
    internal static PacketPlace Unknown => new("", "", 0);

    /// <summary>Makes the failure.</summary>
    /// <param name="reason">Why.</param>
    /// <param name="what">What is wrong, without the place.</param>
    /// <param name="index">The packet's index, where it is known.</param>
    public VfioException Fail(VfioError reason, string what, uint? index = null)
    {
        string packet = index is { } i ? string.Create(CultureInfo.InvariantCulture, $", packet {i}") : "";
        return Channel.Length == 0
            ? new VfioException(reason, $"{Device}{packet}: {what}.") { Section = Device }
            : new VfioException(reason, $"{Device}{packet} ({Channel}, byte {Offset:N0}): {what}.")
            {
                Section = Device,
                Peer = Channel,
                ByteOffset = Offset,
            };
    }
}
