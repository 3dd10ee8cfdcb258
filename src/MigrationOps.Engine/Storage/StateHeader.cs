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

    /// <summary>Reads a header. A foreign file is called foreign at its first wrong byte, however short it is.</summary>
    /// <param name="reader">Has the name of the file as its source.</param>
    /// <param name="header">The header.</param>
    /// <exception cref="StateFileException"><see cref="StateFileError.NotAStateFile"/> or
    /// <see cref="StateFileError.UnsupportedVersion"/>.</exception>
    internal static bool TryRead(ref WireReader reader, out StateHeader header)
    {
        header = default;
        var r = reader;
        string? name = r.Source;
        int count = Math.Min(r.Remaining, Magic.Length);
        if (!r.Rest[..count].SequenceEqual(Magic[..count]))
        {
            throw new StateFileException(StateFileError.NotAStateFile,
                $"'{name}' is not a state file: it does not begin with the bytes of one.")
            { ByteOffset = r.Offset, Target = name };
        }

        if (!r.TryReadBytes(Magic.Length, out _) || !r.TryReadUInt16(out ushort version) || !r.TryReadUInt16(out ushort kind)
            || !r.TryReadUInt32(out uint reserved) || !r.TryReadBytes(16, out var id))
        {
            return false;
        }

        string? unknown = version != Version ? $"has format version {version}; this version reads {Version}"
            : !Enum.IsDefined((DeviceStateKind)kind) ? $"holds a state of kind {kind}, which this version does not know"
            : reserved != 0 ? $"uses a feature of the format (0x{reserved:x}) that this version does not know"
            : null;
        if (unknown is not null)
        {
            int place = version != Version ? Magic.Length : !Enum.IsDefined((DeviceStateKind)kind) ? Magic.Length + 2 : Magic.Length + 4;
            throw new StateFileException(StateFileError.UnsupportedVersion, $"'{name}' {unknown}.") { ByteOffset = reader.Offset + place, Target = name };
        }

        header = new StateHeader((DeviceStateKind)kind, new Guid(id, bigEndian: true));
        reader = r;
        return true;
    }
}
