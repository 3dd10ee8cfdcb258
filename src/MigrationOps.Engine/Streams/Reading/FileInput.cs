using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>A stream that lies in a file or on a block device, from its first byte to the file's end. Offsets count from that byte.</summary>
/// <param name="handle">The file; it stays the owner's.</param>
/// <param name="start">Where the stream starts in it.</param>
/// <param name="name">What errors call it.</param>
internal sealed class FileInput(SafeFileHandle handle, long start, string name)
{
    /// <summary>The file.</summary>
    internal SafeFileHandle Handle { get; } = handle;

    /// <summary>Where the stream starts in the file.</summary>
    internal long Start { get; } = start;

    /// <summary>What errors call it.</summary>
    internal string Name { get; } = name;

    // A block device has no length of its own to the platform.
    /// <summary>Bytes from the start to the file's end; 0 if the start lies behind it.</summary>
    internal long Length { get; } = Math.Max(0, Lseek.Seek(handle, 0, SeekOrigin.End, name) - start);

    /// <summary>Reads what is there, as much as fits; 0 only at the end.</summary>
    internal int Read(long offset, Span<byte> destination)
    {
        int got = 0;
        while (got < destination.Length)
        {
            int count;
            try
            {
                count = RandomAccess.Read(Handle, destination[got..], Start + offset + got);
            }
            catch (IOException e)
            {
                throw new WireException(WireError.InputOutput, $"The stream '{Name}' cannot be read at byte {offset + got:N0}: {e.Message}", e) { Target = Name };
            }

            if (count == 0)
            {
                break;
            }

            got += count;
        }

        return got;
    }

    /// <summary>Where the zeros begin that the file ends with; its length if it ends with another byte. Holes are not read.</summary>
    internal long FindTailOfZeros(long from, CancellationToken cancellationToken)
    {
        const int Piece = 1 << 20;
        var buffer = new byte[Piece];
        long end = Length;
        while (end > from)
        {
            cancellationToken.ThrowIfCancellationRequested();
            long begin = Math.Max(from, end - Piece);
            if (Lseek.NextData(Handle, Start + begin) is not { } data)
            {
                end = begin;
                continue;
            }

            begin = Math.Max(begin, Math.Min(data - Start, end - 1));
            int count = Read(begin, buffer.AsSpan(0, (int)(end - begin)));
            int last = buffer.AsSpan(0, count).LastIndexOfAnyExcept((byte)0);
            if (last >= 0)
            {
                return begin + last + 1;
            }

            end = begin;
        }

        return from;
    }
}
