using System.Buffers.Binary;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// Finds the size of a target's pages from its first whole page in the stream. The configuration names the size only where it
/// is not the smallest of the target, and the description comes at the very end. What tells it is where the next record lies:
/// behind a whole page. The first two records of a size have to fit, because a page may hold anything.
/// </summary>
internal ref struct PageSizeProbe
{
    /// <summary>The id of the section, which its footer repeats.</summary>
    internal required uint SectionId { get; init; }

    /// <summary>The block of the page.</summary>
    internal required RamBlock Block { get; init; }

    /// <summary>All blocks of the list.</summary>
    internal required IReadOnlyList<RamBlock> Blocks { get; init; }

    /// <summary>Where the page lies in its block.</summary>
    internal required long PageOffset { get; init; }

    /// <summary>What the lengths of blocks and the places of pages allow.</summary>
    internal required long Largest { get; init; }

    /// <summary>Whether sections end with a footer; null if not known.</summary>
    internal required bool? HasFooters { get; init; }

    /// <summary>True if no bytes will come behind those at hand.</summary>
    internal required bool Last { get; init; }

    /// <summary>The size, or null if more bytes are needed to tell: at most two pages and the record behind them.</summary>
    /// <param name="data">The bytes behind the page's record word and name.</param>
    internal readonly int? Find(ReadOnlySpan<byte> data)
    {
        // From the smallest: when one has been ruled out, the page is longer, and more of it is sure to come.
        for (int size = StreamFormat.MinPageSize; size <= Largest; size *= 2)
        {
            switch (size <= data.Length ? Follows(data[size..], size, Block, PageOffset, records: 2) : null)
            {
                case true:
                    return size;
                case null when !Last:
                    return null;
            }
        }

        // A cut stream, or one that is damaged right here: what most targets have.
        return (int)Math.Min(StreamFormat.DefaultPageSize, Largest);
    }

    // Null if the bytes at hand do not tell.
    private readonly bool? Follows(ReadOnlySpan<byte> data, int size, RamBlock block, long before, int records)
    {
        if (data.Length < sizeof(ulong))
        {
            return null;
        }

        ulong word = BinaryPrimitives.ReadUInt64BigEndian(data);
        data = data[sizeof(ulong)..];
        ulong flags = word & Math.Min((ulong)size - 1, RamBody.AllFlags);
        ulong offset = word - flags;
        if (word == RamBody.EndOfSection)
        {
            return CanEnd(data);
        }

        if (!RamBody.IsPage(flags & ~RamBody.Continue) || offset % (ulong)size != 0)
        {
            return false;
        }

        if ((flags & RamBody.Continue) == 0)
        {
            if (data.Length == 0 || data.Length <= data[0])
            {
                return null;
            }

            if (FindBlock(data.Slice(1, data[0])) is not { } other)
            {
                return false;
            }

            block = other;
            data = data[(1 + data[0])..];
            before = -1;
        }

        return offset >= (ulong)block.Length || offset == (ulong)before ? false
            : records == 1 ? true
            : CheckNextRecord(data, size, block, (long)offset, flags & ~RamBody.Continue, records - 1);
    }

    // The record behind the one whose data this is. Encoded pages are short, and give no further information by themselves.
    private readonly bool? CheckNextRecord(ReadOnlySpan<byte> data, int size, RamBlock block, long offset, ulong flag, int records)
    {
        int? length = RamBody.DataLength(flag, data, size);
        return length is null || length > data.Length ? null : Follows(data[length.Value..], size, block, offset, records);
    }

    private readonly bool? CanEnd(ReadOnlySpan<byte> data)
    {
        if (HasFooters == false)
        {
            return data.IsEmpty ? null : data[0] is StreamFormat.Part or StreamFormat.End or StreamFormat.Start or StreamFormat.Full or StreamFormat.Eof;
        }

        if (data.Length < SectionHeaders.FooterLength)
        {
            return null;
        }

        // The first section of a stream may end here, so that footers are not known yet.
        return (data[0] == StreamFormat.Footer && BinaryPrimitives.ReadUInt32BigEndian(data[1..]) == SectionId)
            || (HasFooters is null && data[0] is StreamFormat.Part or StreamFormat.End && BinaryPrimitives.ReadUInt32BigEndian(data[1..]) == SectionId);
    }

    private readonly RamBlock? FindBlock(ReadOnlySpan<byte> name)
    {
        foreach (var block in Blocks)
        {
            if (name.SequenceEqual(block.NameBytes))
            {
                return block;
            }
        }

        return null;
    }
}
