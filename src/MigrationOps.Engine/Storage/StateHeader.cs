using System.Buffers;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Storage;

/// <summary>
/// The beginning of a state file: 8 bytes magic, be16 version, be16 kind, be32 reserved, 16 bytes id. The id is random
/// and stands in the manifest too, so that a foreign manifest shows.
/// </summary>
/// <param name="Kind">What the file holds.</param>
/// <param name="Id">Random id of this state.</param>
public readonly record struct StateHeader(DeviceStateKind Kind, Guid Id)
{
    /// <summary>Bytes of the header.</summary>
    public const int Size = 32;

    /// <summary>The version that this code writes and reads.</summary>
    public const ushort Version = 1;

    /// <summary>The first bytes of every state file.</summary>
    public static ReadOnlySpan<byte> Magic => "MOPSTATE"u8;

    /// <summary>Writes the header.</summary>
    public void Write(IBufferWriter<byte> output)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteBytes(Magic);
        writer.WriteUInt16(Version);
        writer.WriteUInt16((ushort)Kind);
        writer.WriteUInt32(0);
        writer.WriteBytes(Id.ToByteArray(bigEndian: true));
    }

    /// <summary>Reads a header from exactly <see cref="Size"/> bytes.</summary>
    /// <exception cref="StateFileException"><see cref="StateFileError.NotAStateFile"/> or
    /// <see cref="StateFileError.UnsupportedVersion"/>.</exception>
    public static StateHeader Parse(ReadOnlySpan<byte> bytes, string name)
    {
        var reader = WireReader.BigEndian(bytes);
        if (!reader.ReadBytes(Magic.Length, "magic").SequenceEqual(Magic))
        {
            throw new StateFileException(StateFileError.NotAStateFile,
                $"'{name}' is not a state file: it does not begin with the bytes of one.")
            { ByteOffset = 0, Target = name };
        }

        ushort version = reader.ReadUInt16("version");
        if (version != Version)
        {
            throw new StateFileException(StateFileError.UnsupportedVersion,
                $"'{name}' has format version {version}; this version reads {Version}.")
            { ByteOffset = Magic.Length, Target = name };
        }

        var kind = (DeviceStateKind)reader.ReadUInt16("kind");
        if (!Enum.IsDefined(kind))
        {
            throw new StateFileException(StateFileError.UnsupportedVersion,
                $"'{name}' holds a state of kind {(ushort)kind}, which this version does not know.")
            { ByteOffset = reader.Offset - 2, Target = name };
        }

        uint reserved = reader.ReadUInt32("reserved");
        if (reserved != 0)
        {
            throw new StateFileException(StateFileError.UnsupportedVersion,
                $"'{name}' uses a feature of the format (0x{reserved:x}) that this version does not know.")
            { ByteOffset = reader.Offset - 4, Target = name };
        }

        return new StateHeader(kind, new Guid(reader.ReadBytes(16, "id"), bigEndian: true));
    }
}
