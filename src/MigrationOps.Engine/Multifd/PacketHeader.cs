using System.Buffers.Binary;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>The flags of a multifd packet.</summary>
[Flags]
public enum PacketFlags : uint
{
    /// <summary>Pages as they are.</summary>
    None = 0,

    /// <summary>The receiving thread waits here for the main stream.</summary>
    Sync = 1,

    /// <summary>Compressed with zlib.</summary>
    Zlib = 1 << 1,

    /// <summary>Compressed with zstd.</summary>
    Zstd = 2 << 1,

    /// <summary>Compressed with QPL.</summary>
    Qpl = 4 << 1,

    /// <summary>Compressed with UADK.</summary>
    Uadk = 8 << 1,

    /// <summary>Compressed with QATzip.</summary>
    QatZip = 16 << 1,

    /// <summary>The packet carries device state and not RAM.</summary>
    DeviceState = 0x40,
}

/// <summary>The 12 bytes with which every multifd packet starts.</summary>
/// <param name="Flags">What follows.</param>
public readonly record struct PacketHeader(PacketFlags Flags)
{
    /// <summary>Length in bytes.</summary>
    public const int Size = 12;

    /// <summary>The bits that name a compression.</summary>
    public const PacketFlags CompressionMask = (PacketFlags)(0x1f << 1);

    private const PacketFlags Known = PacketFlags.Sync | CompressionMask | PacketFlags.DeviceState;

    /// <summary>True if device state follows.</summary>
    public bool IsDeviceState => (Flags & PacketFlags.DeviceState) != 0;

    /// <summary>True if the packet is a SYNC mark.</summary>
    public bool IsSync => (Flags & PacketFlags.Sync) != 0;

    /// <summary>The compression bits.</summary>
    public PacketFlags Compression => Flags & CompressionMask;

    /// <summary>Bits without a meaning, which QEMU ignores.</summary>
    public PacketFlags Unknown => Flags & ~Known;

    /// <summary>Reads the header.</summary>
    /// <param name="data">Bytes from the packet's start.</param>
    /// <param name="header">The header.</param>
    /// <param name="channel">What errors call the channel.</param>
    /// <param name="offset">Where the packet starts in the channel.</param>
    /// <returns>Bytes used; 0 if more are needed.</returns>
    public static int Parse(ReadOnlySpan<byte> data, out PacketHeader header, string channel, long offset)
    {
        header = default;
        var reader = WireReader.BigEndian(data);
        if (reader.TryReadUInt32(out uint magic) && magic != ChannelInit.Magic)
        {
            throw MultifdException.At(MultifdError.InvalidPacketMagic, channel, offset,
                $"a packet starts with 0x{ChannelInit.Magic:x8}, here is 0x{magic:x8}");
        }

        if (reader.TryReadUInt32(out uint version) && version != ChannelInit.Version)
        {
            throw MultifdException.At(MultifdError.UnsupportedVersion, channel, offset + 4,
                $"the packet has version {version}, not {ChannelInit.Version}");
        }

        if (!reader.TryReadUInt32(out uint flags))
        {
            return 0;
        }

        header = new PacketHeader((PacketFlags)flags);
        return Size;
    }

    /// <summary>Writes the header.</summary>
    public void Write(Span<byte> destination)
    {
        WriteMagic(destination);
        BinaryPrimitives.WriteUInt32BigEndian(destination[8..], (uint)Flags);
    }

    internal static void WriteMagic(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt32BigEndian(destination, ChannelInit.Magic);
        BinaryPrimitives.WriteUInt32BigEndian(destination[4..], ChannelInit.Version);
    }
}
