using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>Moves bytes from a stream into a walker, and steps over what the walker does not need.</summary>
internal static class StreamPump
{
    // Fits the second-level cache: what read(2) copies is still there when the walker looks at it.
    private const int BufferSize = 384 * 1024;
    private const int ReadSize = 256 * 1024;

    /// <summary>Runs until the input ends.</summary>
    /// <param name="input">Positioned at the walker's first byte.</param>
    /// <param name="walker">Who takes the bytes.</param>
    /// <param name="scope">Ends it between pieces, and is told how many bytes went by.</param>
    /// <param name="isAgain">True if these bytes were counted as progress before.</param>
    /// <returns>How many bytes the input had.</returns>
    internal static long Run(Stream input, IByteConsumer walker, TransferScope scope, bool isAgain = false)
    {
        var buffer = GC.AllocateUninitializedArray<byte>(BufferSize);
        int kept = 0;
        long total = 0;
        while (true)
        {
            scope.CancellationToken.ThrowIfCancellationRequested();
            int count = Read(input, buffer.AsSpan(kept, Math.Min(ReadSize, BufferSize - kept)), walker);
            total += count;
            kept += count;
            int used = walker.Feed(buffer.AsSpan(0, kept), last: count == 0);
            if (count == 0)
            {
                return total;
            }

            kept -= used;
            buffer.AsSpan(used, kept).CopyTo(buffer);
            scope.Count(isAgain ? 0 : count);
        }
    }

    /// <summary>Runs until the input ends, or nothing more of it is of interest.</summary>
    /// <param name="input">The file.</param>
    /// <param name="end">How many bytes of it to take.</param>
    /// <param name="walker">Who takes the bytes.</param>
    /// <param name="scope">Ends it between pieces, and is told how many bytes went by.</param>
    /// <param name="isAgain">True if these bytes were counted as progress before.</param>
    internal static void Run(FileInput input, long end, IByteConsumer walker, TransferScope scope, bool isAgain = false)
    {
        var buffer = GC.AllocateUninitializedArray<byte>(BufferSize);
        long position = 0;
        while (!walker.IsDone)
        {
            scope.CancellationToken.ThrowIfCancellationRequested();
            long before = position;
            long skip = Math.Min(walker.PendingSkip, end - position);
            walker.Skipped(skip);
            position += skip;
            int count = input.Read(position, buffer.AsSpan(0, (int)Math.Min(BufferSize, end - position)));
            bool last = count < BufferSize || position + count == end;
            int used = walker.Feed(buffer.AsSpan(0, count), last);
            position += used;
            if (last)
            {
                return;
            }

            if (used == 0 && walker.PendingSkip == 0)
            {
                throw new InvalidOperationException($"The walker takes nothing of {count:N0} bytes at {position:N0}.");
            }

            scope.Count(isAgain ? 0 : position - before);
        }
    }

    private static int Read(Stream input, Span<byte> buffer, IByteConsumer walker)
    {
        try
        {
            return input.Read(buffer);
        }
        catch (IOException e)
        {
            throw new WireException(WireError.InputOutput, $"The stream cannot be read: {e.Message}", e);
        }
        catch (Exception e) when (e is InvalidDataException or StreamException { Reason: StreamError.Decompression } && walker.IsDone)
        {
            // The program did not like what lies behind the compressed stream, on a volume for one.
            return 0;
        }
        catch (InvalidDataException e)
        {
            throw new StreamException(StreamError.Decompression, $"The stream cannot be decompressed: {e.Message}", e,
                Compressions.DamagedAction);
        }
    }
}
