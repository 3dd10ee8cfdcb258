using System.Buffers.Binary;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Storage;

/// <summary>
/// The head of a chunk: be32 length, and that many bytes follow; length zero ends the chunks. QEMU's <c>vhost_save_backend_state</c>
/// writes a back-end's state so, and a state file has its data and its parts so.
/// </summary>
/// <param name="Length">Bytes of the chunk.</param>
internal readonly record struct ChunkHeader(uint Length)
{
    /// <summary>Bytes of the header.</summary>
    public const int Size = sizeof(uint);

    /// <summary>True for the mark behind the last chunk.</summary>
    public bool IsEnd => Length == 0;

    /// <summary>Reads a header; any length is possible.</summary>
    public static bool TryRead(ref WireReader reader, out ChunkHeader header)
    {
        bool isThere = reader.TryReadUInt32(out uint length);
        header = new ChunkHeader(length);
        return isThere;
    }

    /// <summary>Writes the header of a chunk, or the end mark for length 0.</summary>
    public static void Write(Span<byte> destination, uint length) => BinaryPrimitives.WriteUInt32BigEndian(destination, length);
}
