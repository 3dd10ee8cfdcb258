using System.Buffers.Binary;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>The flags of a multifd packet.</summary>
[Flags]
internal enum PacketFlags : uint
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
internal readonly record struct PacketHeader(PacketFlags Flags)
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

    /// <summary>The compression as QEMU's parameter multifd-compression calls it; null for bits that are not one of them.</summary>
    public string? CompressionName => Compression switch
    {
        PacketFlags.None => "none",
        PacketFlags.Zlib => "zlib",
        PacketFlags.Zstd => "zstd",
        PacketFlags.Qpl => "qpl",
        PacketFlags.Uadk => "uadk",
        PacketFlags.QatZip => "qatzip",
        _ => null,
    };

    /// <summary>What to say of unknown flags; null if there are none.</summary>
    internal string? Warning => Unknown == 0 ? null : $"packets have the unknown flag bits 0x{(uint)Unknown:x}, which QEMU ignores";

    /// <summary>Reads the header. Unknown flags are accepted, as QEMU does; see <see cref="Warning"/>.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidPacketMagic"/>, <see cref="StreamError.UnsupportedVersion"/>.</exception>
    internal static bool TryRead(ref WireReader reader, out PacketHeader header)
    {
        var r = reader;
        header = default;
        if (r.TryReadUInt32(out uint magic) && magic != ChannelInit.Magic)
        {
            throw StreamException.In(StreamError.InvalidPacketMagic, r.Source, reader.Offset,
                $"expected a packet (0x{ChannelInit.Magic:x8}), found 0x{magic:x8}");
        }

        long offset = r.Offset;
        if (r.TryReadUInt32(out uint version) && version != ChannelInit.Version)
        {
            throw StreamException.In(StreamError.UnsupportedVersion, r.Source, offset,
                $"expected a packet of version {ChannelInit.Version}, found version {version}");
        }

        if (!r.TryReadUInt32(out uint flags))
        {
            return false;
        }

        header = new PacketHeader((PacketFlags)flags);
        reader = r;
        return true;
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
