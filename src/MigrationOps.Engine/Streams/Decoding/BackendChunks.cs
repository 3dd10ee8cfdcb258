using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Storage;

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
        Span<byte> head = stackalloc byte[ChunkDecoder.HeaderSize];
        long position = field.Offset, end = field.Offset + field.Size;
        while (end - position >= head.Length)
        {
            bytes.Read(position, head);
            uint length = ChunkDecoder.ReadHeader(head);
            position += head.Length;
            if (length == 0)
            {
                return position == end ? [.. chunks] : null;
            }

            if (length > end - position || !budget.TryTake(BytesPerChunk))
            {
                return null;
            }

            chunks.Add(new StateNode { Name = "chunk", Type = "state", Offset = position, Size = length, IsElement = true });
            position += length;
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
        var decoder = new ChunkDecoder();
        var piece = new byte[PieceLength];
        long done = 0;
        while (done < field.Size)
        {
            int count = (int)Math.Min(piece.Length, field.Size - done);
            bytes.Read(field.Offset + done, piece.AsSpan(0, count));
            ReadOnlySpan<byte> rest = piece.AsSpan(0, count);
            while (!rest.IsEmpty && !decoder.HasEnded)
            {
                var data = decoder.Decode(ref rest);
                if (!data.IsEmpty)
                {
                    sink(data);
                }
            }

            done += count;
            if (decoder.HasEnded && (rest.Length > 0 || done < field.Size))
            {
                throw Invalid(field.Offset + done - rest.Length, "the chunks end before the field does");
            }
        }

        return decoder.HasEnded ? decoder.Bytes : throw Invalid(field.Offset + field.Size, decoder.IsBetweenChunks
            ? "the chunks' end mark is missing"
            : $"chunk {decoder.Chunks} announces {decoder.ChunkLength:N0} bytes, {decoder.Remaining:N0} of them are missing");

        StreamException Invalid(long offset, string what)
            => new(StreamError.InvalidChunks, $"The back-end's state in section {section} is broken: at byte {offset:N0} {what}.")
            { Section = section, ByteOffset = offset };
    }
}
