using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>The 64 bytes with which a multifd channel starts (MultiFDInit in QEMU).</summary>
/// <param name="Uuid">UUID of the virtual machine; zeros if it has none.</param>
/// <param name="Id">Number of the channel, from 0. Channels connect in any order.</param>
public readonly record struct ChannelInit(Guid Uuid, byte Id)
{
    /// <summary>Length in bytes.</summary>
    public const int Size = 64;

    /// <summary>First word of a multifd channel and of each of its packets.</summary>
    public const uint Magic = 0x11223344;

    /// <summary>First word of a migration's main stream, "QEVM".</summary>
    public const uint MainMagic = 0x5145564d;

    /// <summary>The only version.</summary>
    public const uint Version = 1;

    /// <summary>Reads the message.</summary>
    /// <param name="data">Bytes from the channel's start.</param>
    /// <param name="init">The message.</param>
    /// <param name="channel">What errors call the channel.</param>
    /// <returns>Bytes used; 0 if more are needed.</returns>
    /// <exception cref="MultifdException"><see cref="MultifdError.UnknownMagic"/>,
    /// <see cref="MultifdError.UnsupportedVersion"/>.</exception>
    public static int Parse(ReadOnlySpan<byte> data, out ChannelInit init, string channel)
    {
        init = default;
        var reader = WireReader.BigEndian(data);
        if (reader.TryReadUInt32(out uint magic) && magic != Magic)
        {
            throw MultifdException.At(MultifdError.UnknownMagic, channel, 0,
                $"a multifd channel starts with 0x{Magic:x8}, this one with 0x{magic:x8}");
        }

        if (reader.TryReadUInt32(out uint version) && version != Version)
        {
            throw MultifdException.At(MultifdError.UnsupportedVersion, channel, 4, $"the channel has version {version}, not {Version}");
        }

        if (data.Length < Size)
        {
            return 0;
        }

        var uuid = new Guid(reader.ReadBytes(16, "uuid"), bigEndian: true);
        init = new ChannelInit(uuid, reader.ReadByte("channel id"));
        return Size;
    }

    /// <summary>Tells a main channel from a multifd channel by its first word.</summary>
    /// <param name="firstWord">The first four bytes.</param>
    /// <param name="connection">What errors call the connection.</param>
    /// <exception cref="MultifdException"><see cref="MultifdError.UnknownMagic"/> if it is neither.</exception>
    public static bool IsMain(ReadOnlySpan<byte> firstWord, string connection)
    {
        uint magic = WireReader.BigEndian(firstWord).ReadUInt32("magic");
        return magic is MainMagic or Magic ? magic == MainMagic : throw MultifdException.At(MultifdError.UnknownMagic, connection, 0,
            $"the connection starts with 0x{magic:x8}, which is neither a migration stream nor a multifd channel");
    }

    /// <summary>Writes the message.</summary>
    public void Write(Span<byte> destination)
    {
        destination[..Size].Clear();
        PacketHeader.WriteMagic(destination);
        Uuid.TryWriteBytes(destination[8..24], bigEndian: true, out _);
        destination[24] = Id;
    }
}
