using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>The 64 bytes with which a multifd channel starts (MultiFDInit in QEMU).</summary>
/// <param name="Uuid">UUID of the virtual machine; zeros if it has none.</param>
/// <param name="Id">Number of the channel, from 0. Channels connect in any order.</param>
internal readonly record struct ChannelInit(Guid Uuid, byte Id)
{
    /// <summary>Length in bytes.</summary>
    public const int Size = 64;

    /// <summary>Magic of a multifd channel and of each of its packets.</summary>
    public const uint Magic = 0x11223344;

    /// <summary>The only version.</summary>
    public const uint Version = 1;

    /// <summary>Reads the message.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.NotAStream"/>, <see cref="StreamError.UnsupportedVersion"/>.</exception>
    internal static bool TryRead(ref WireReader reader, out ChannelInit init)
    {
        var r = reader;
        init = default;
        if (r.TryReadUInt32(out uint magic) && magic != Magic)
        {
            throw StreamException.In(StreamError.NotAStream, r.Source, reader.Offset,
                $"expected the magic of a multifd channel (0x{Magic:x8}), found 0x{magic:x8}");
        }

        long offset = r.Offset;
        if (r.TryReadUInt32(out uint version) && version != Version)
        {
            throw StreamException.In(StreamError.UnsupportedVersion, r.Source, offset, $"expected a channel of version {Version}, found version {version}");
        }

        if (reader.Remaining < Size)
        {
            return false;
        }

        r.TryReadBytes(16, out var uuid);
        r.TryReadByte(out byte id);
        reader.TryReadBytes(Size, out _);
        init = new ChannelInit(new Guid(uuid, bigEndian: true), id);
        return true;
    }

    /// <summary>Tells a main channel from a multifd channel by its first word; false if more bytes are needed.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.NotAStream"/> if it is neither.</exception>
    internal static bool TryReadKind(ref WireReader reader, out bool isMain)
    {
        var r = reader;
        isMain = false;
        if (!r.TryReadUInt32(out uint magic))
        {
            return false;
        }

        isMain = magic is StreamFormat.Magic or Magic ? magic == StreamFormat.Magic : throw StreamException.In(StreamError.NotAStream, r.Source, reader.Offset,
            $"expected a migration stream (0x{StreamFormat.Magic:x8}) or a multifd channel (0x{Magic:x8}), found 0x{magic:x8}");
        return true;
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
