using System.Buffers.Binary;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Finds the description at the end of a file before the stream is walked, so that the ends of sections are known and a
/// damaged footer is told from a missing one. It is a shortcut only: what is found here must be what the walk finds.
/// </summary>
internal static class DescriptionLocator
{
    private const int HeadLength = 5;

    // EOF, the description's type, and the first byte of a length below the limit.
    private static ReadOnlySpan<byte> Head => [StreamFormat.Eof, StreamFormat.Description, 0];

    /// <summary>Gives the description, or null if the file's tail does not have one that can be read.</summary>
    internal static StreamDescription? Find(FileInput file, MemoryBudget budget)
    {
        long end = file.Length;
        var window = new byte[64 * 1024];
        long position = end;
        long lowest = Math.Max(0, end - StreamFormat.MaxDescription - window.Length);
        while (position > lowest)
        {
            // The head is EOF, type, length (its first byte 0 by the limit) and a brace; windows overlap by it.
            int count = (int)Math.Min(window.Length, position - lowest);
            position -= count;
            int got = file.Read(position, window.AsSpan(0, count));
            if (FindIn(file, window.AsSpan(0, got), position, end, budget, out var description))
            {
                return description;
            }

            if (position > lowest)
            {
                position += 8;
            }
        }

        return null;
    }

    private static bool FindIn(FileInput file, Span<byte> window, long position, long end, MemoryBudget budget, out StreamDescription? description)
    {
        description = null;
        int limit = window.Length;
        while (true)
        {
            int found = window[..limit].LastIndexOf(Head);
            if (found < 0)
            {
                return false;
            }

            limit = found + 2;
            if (window.Length - found < HeadLength + 2 || window[found + 1 + HeadLength] != (byte)'{')
            {
                continue;
            }

            uint length = BinaryPrimitives.ReadUInt32BigEndian(window[(found + 2)..]);
            long json = position + found + 1 + HeadLength;
            if (length > end - json || !budget.TryTake(length))
            {
                continue;
            }

            var bytes = new byte[length];
            file.Read(json, bytes);
            long before = budget.Used;
            try
            {
                description = StreamDescription.Parse(bytes, budget);
                return true;
            }
            catch (StreamException)
            {
                // The walk will come to it and say what is wrong with it.
                budget.Return(budget.Used - before);
                return true;
            }
            finally
            {
                budget.Return(length);
            }
        }
    }
}
