using System.Buffers.Binary;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>The 12 bytes with which the payload of every VFIO device-state packet starts.</summary>
/// <param name="Index">Place in the device's stream, from 0 without gaps.</param>
/// <param name="Flags">Bit 0: config state. QEMU ignores the others.</param>
public readonly record struct VfioPacketHeader(uint Index, uint Flags)
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

    /// <summary>Reads the header.</summary>
    /// <param name="data">Bytes from the payload's start.</param>
    /// <param name="header">The header.</param>
    /// <param name="place">Names device, channel and offset in errors.</param>
    /// <returns>Bytes used; 0 if more are needed.</returns>
    /// <exception cref="VfioException"><see cref="VfioError.UnsupportedPacketVersion"/>, <see cref="VfioError.InvalidIndex"/>.</exception>
    public static int Parse(ReadOnlySpan<byte> data, out VfioPacketHeader header, in PacketPlace place)
    {
        header = default;
        var reader = WireReader.BigEndian(data);
        if (!reader.TryReadUInt32(out uint version) || !reader.TryReadUInt32(out uint index)
            || !reader.TryReadUInt32(out uint flags))
        {
            return 0;
        }

        if (version != Version)
        {
            throw place.Fail(VfioError.UnsupportedPacketVersion, $"the packet has version {version}, not {Version}");
        }

        if (index == InvalidIndex)
        {
            throw place.Fail(VfioError.InvalidIndex, "the packet has the index 0xffffffff, which means none");
        }

        header = new VfioPacketHeader(index, flags);
        return Size;
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
