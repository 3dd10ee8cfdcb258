using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>Takes a vhost-user back-end's state out of the field that holds it in chunks.</summary>
internal static class BackendChunks
{
    private const int PieceLength = 64 * 1024;
    private const int BytesPerChunk = 128;

    /// <summary>Receives bytes of state.</summary>
    internal delegate void Sink(ReadOnlySpan<byte> data);

    /// <summary>The chunks' data as members of the field; null if they are broken, which <see cref="Copy"/> tells in full.</summary>
    internal static StateNode[]? Split(StreamBytes bytes, StateNode field, MemoryBudget budget)
    {
        var chunks = new List<StateNode>();
        long position = field.Offset, end = field.Offset + field.Size;
        while (ReadHeader(bytes, ref position, end) is { } header)
        {
            if (header.IsEnd)
            {
                return position == end ? [.. chunks] : null;
            }

            if (header.Length > end - position || !budget.TryTake(BytesPerChunk))
            {
                return null;
            }

            chunks.Add(new StateNode { Name = "chunk", Type = "state", Offset = position, Size = header.Length, IsElement = true });
            position += header.Length;
        }

        return null;
    }

    /// <summary>Copies the state, chunk by chunk.</summary>
    /// <param name="bytes">The stream.</param>
    /// <param name="field">The field.</param>
    /// <param name="section">What errors call the section.</param>
    /// <param name="sink">Gets the state, in order.</param>
    /// <returns>Bytes of state.</returns>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidChunks"/>.</exception>
    internal static long Copy(StreamBytes bytes, StateNode field, string section, Sink sink)
    {
        byte[] piece = new byte[PieceLength];
        long position = field.Offset, end = field.Offset + field.Size, state = 0;
        for (int chunk = 1; ReadHeader(bytes, ref position, end) is { } header; chunk++)
        {
            if (header.IsEnd)
            {
                return position == end ? state : throw Invalid(position, "the chunks end before the field does");
            }

            if (header.Length > end - position)
            {
                throw Invalid(end, $"chunk {chunk} announces {header.Length:N0} bytes, {header.Length - (end - position):N0} of them are missing");
            }

            for (long left = header.Length; left > 0;)
            {
                int count = (int)Math.Min(left, piece.Length);
                bytes.Read(position, piece.AsSpan(0, count));
                sink(piece.AsSpan(0, count));
                position += count;
                left -= count;
            }

            state += header.Length;
        }

        throw Invalid(end, "the chunks' end mark is missing");

        StreamException Invalid(long offset, string what)
            => new(StreamError.InvalidChunks, $"The back-end's state in section {section} is broken: at byte {offset:N0} {what}.")
            { Section = section, ByteOffset = offset };
    }

    // Null where the bytes end before a header does.
    private static ChunkHeader? ReadHeader(StreamBytes bytes, ref long position, long end)
    {
        Span<byte> head = stackalloc byte[ChunkHeader.Size];
        if (end - position < head.Length)
        {
            return null;
        }

        bytes.Read(position, head);
        position += head.Length;
        var reader = WireReader.BigEndian(head);
        return ChunkHeader.TryRead(ref reader, out var header) ? header : null;
    }
}
