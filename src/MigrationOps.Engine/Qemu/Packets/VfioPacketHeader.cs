using System.Buffers.Binary;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>The 12 bytes with which the payload of every VFIO device-state packet starts.</summary>
/// <param name="Index">Place in the device's stream, from 0 without gaps.</param>
/// <param name="Flags">Bit 0: config state. QEMU ignores the others.</param>
internal readonly record struct VfioPacketHeader(uint Index, uint Flags)
{
    /// <summary>Length in bytes.</summary>
    public const int Size = 12;

    /// <summary>The only version.</summary>
    public const uint Version = 0;

    /// <summary>The index that means none.</summary>
    public const uint InvalidIndex = uint.MaxValue;

    private const uint ConfigFlag = 1;

    /// <summary>True for the last packet of a device, which holds its config state.</summary>
    public bool IsConfig => (Flags & ConfigFlag) != 0;

    /// <summary>Flag bits without a meaning.</summary>
    public uint UnknownFlags => Flags & ~ConfigFlag;

    /// <summary>What to say of unknown flags; null if there are none.</summary>
    internal string? Warning => UnknownFlags == 0 ? null : $"Packets have the unknown flag bits 0x{UnknownFlags:x}, which QEMU ignores.";

    /// <summary>Looks whether a packet of this payload has room for the header.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.ShortPacket"/>.</exception>
    internal static void CheckPayload(int length, in PacketPlace place)
    {
        if (length < Size)
        {
            throw place.Fail(StreamError.ShortPacket, $"the packet has {length} bytes, its header alone has {Size}");
        }
    }

    /// <summary>Reads the header. Unknown flags are accepted, as QEMU does; see <see cref="Warning"/>.</summary>
    /// <param name="reader">The bytes at hand.</param>
    /// <param name="place">Names device, channel and offset in errors.</param>
    /// <param name="header">The header.</param>
    /// <exception cref="StreamException"><see cref="StreamError.UnsupportedVersion"/>, <see cref="StreamError.InvalidIndex"/>.</exception>
    internal static bool TryRead(ref WireReader reader, in PacketPlace place, out VfioPacketHeader header)
    {
        var r = reader;
        header = default;
        if (!r.TryReadUInt32(out uint version) || !r.TryReadUInt32(out uint index) || !r.TryReadUInt32(out uint flags))
        {
            return false;
        }

        if (version != Version)
        {
            throw place.Fail(StreamError.UnsupportedVersion, $"expected a VFIO packet of version {Version}, found version {version}");
        }

        if (index == InvalidIndex)
        {
            throw place.Fail(StreamError.InvalidIndex, "the packet has the index 0xffffffff, which is reserved");
        }

        header = new VfioPacketHeader(index, flags);
        reader = r;
        return true;
    }

    /// <summary>A header for the packet of this place.</summary>
    public static VfioPacketHeader For(uint index, bool isConfig) => new(index, isConfig ? ConfigFlag : 0);

    /// <summary>Writes the header.</summary>
    public void Write(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt32BigEndian(destination, Version);
        BinaryPrimitives.WriteUInt32BigEndian(destination[4..], Index);
        BinaryPrimitives.WriteUInt32BigEndian(destination[8..], Flags);
    }
}
