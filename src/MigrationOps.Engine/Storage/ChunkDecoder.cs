using System.Buffers.Binary;

namespace MigrationOps.Engine.Storage;

/// <summary>
/// Takes QEMU's chunk format apart (be32 length and that many bytes, again and again; length zero ends it), as
/// <c>vhost_save_backend_state</c> writes it. Never does I/O and never holds data: any length is taken as it comes.
/// </summary>
internal struct ChunkDecoder
{
    /// <summary>Bytes of a chunk's header.</summary>
    public const int HeaderSize = 4;

    private uint _header;
    private int _headerBytes;

    /// <summary>True once the zero length was read.</summary>
    public bool HasEnded { get; private set; }

    /// <summary>Chunks begun so far.</summary>
    public long Chunks { get; private set; }

    /// <summary>Bytes of data so far.</summary>
    public long Bytes { get; private set; }

    /// <summary>The length that the current chunk announced.</summary>
    public uint ChunkLength { get; private set; }

    /// <summary>Bytes of the current chunk that have not been seen.</summary>
    public uint Remaining { get; private set; }

    /// <summary>Bytes that are needed to complete the next header; 0 inside a chunk and after the end.</summary>
    public readonly int HeaderBytesWanted => HasEnded || Remaining > 0 ? 0 : HeaderSize - _headerBytes;

    /// <summary>True between chunks, where an end of the stream cuts nothing but the end mark.</summary>
    public readonly bool IsBetweenChunks => Remaining == 0 && _headerBytes == 0;

    /// <summary>Consumes input up to the end of the current chunk.</summary>
    /// <param name="input">What there is; on return what was not used.</param>
    /// <returns>Bytes of data, part of the input; empty if only a header was consumed.</returns>
    public ReadOnlySpan<byte> Decode(scoped ref ReadOnlySpan<byte> input)
    {
        while (HeaderBytesWanted > 0 && !input.IsEmpty)
        {
            _header = (_header << 8) | input[0];
            input = input[1..];
            if (++_headerBytes == HeaderSize)
            {
                BeginChunk();
            }
        }

        int count = (int)Math.Min(Remaining, (uint)input.Length);
        var data = input[..count];
        input = input[count..];
        Advance((uint)count);
        return data;
    }

    /// <summary>Reads the header of a chunk that is there whole.</summary>
    public static uint ReadHeader(ReadOnlySpan<byte> header) => BinaryPrimitives.ReadUInt32BigEndian(header);

    /// <summary>Counts bytes of the current chunk that were moved without passing through here.</summary>
    /// <param name="count">At most <see cref="Remaining"/>.</param>
    public void Advance(uint count)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, Remaining);
        Remaining -= count;
        Bytes += count;
    }

    /// <summary>Writes the header of a chunk, or the end mark for length 0.</summary>
    public static void WriteHeader(Span<byte> destination, uint length)
        => BinaryPrimitives.WriteUInt32BigEndian(destination, length);

    private void BeginChunk()
    {
        ChunkLength = Remaining = _header;
        HasEnded = _header == 0;
        Chunks += HasEnded ? 0 : 1;
        _header = 0;
        _headerBytes = 0;
    }
}
