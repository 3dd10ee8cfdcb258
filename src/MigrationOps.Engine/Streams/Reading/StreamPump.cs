using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>Moves bytes from a stream into a walker through one small buffer, and steps over what the walker does not need.</summary>
internal static class StreamPump
{
    // Fits the second-level cache: what read(2) copies is still there when the walker looks at it.
    private const int BufferSize = 384 * 1024;
    private const int ReadSize = 256 * 1024;

    // Below this a seek costs more than it saves.
    private const int MinSeek = 64 * 1024;

    /// <summary>Runs until the input ends.</summary>
    /// <param name="input">Positioned at the walker's first byte.</param>
    /// <param name="walker">Who takes the bytes.</param>
    /// <param name="scope">Ends it between pieces.</param>
    /// <param name="isAgain">True if these bytes were counted as progress before.</param>
    /// <returns>How many bytes the input had.</returns>
    internal static long Run(Stream input, IByteConsumer walker, TransferScope scope, bool isAgain = false)
    {
        var buffer = GC.AllocateUninitializedArray<byte>(BufferSize);
        int kept = 0;
        long total = 0, counted = 0;
        while (true)
        {
            scope.CancellationToken.ThrowIfCancellationRequested();
            int count = Read(input, buffer.AsSpan(kept, Math.Min(ReadSize, BufferSize - kept)));
            total += count;
            kept += count;
            int used = walker.Feed(buffer.AsSpan(0, kept), last: count == 0);
            if (count == 0)
            {
                return total;
            }

            kept -= used;
            buffer.AsSpan(used, kept).CopyTo(buffer);
            if (kept == 0 && walker.PendingSkip >= MinSeek && input is FileStream { CanSeek: true } file)
            {
                long skip = Math.Min(walker.PendingSkip, file.Length - file.Position);
                file.Position += skip;
                walker.Skipped(skip);
                total += skip;
            }

            if (!isAgain)
            {
                scope.Count(total - counted);
                counted = total;
            }
        }
    }

    private static int Read(Stream input, Span<byte> buffer)
    {
        try
        {
            return input.Read(buffer);
        }
        catch (IOException e)
        {
            throw new WireException(WireError.InputOutput, $"The stream cannot be read: {e.Message}", e);
        }
        catch (InvalidDataException e)
        {
            throw new StreamException(StreamError.Decompression, $"The stream cannot be decompressed: {e.Message}", e,
                "The compressed stream is damaged. Save the VM again.");
        }
    }
}
