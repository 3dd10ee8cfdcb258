using System.Buffers.Binary;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// Finds the size of a target's pages from its first page in the stream. The configuration names the size only where it is not
/// the smallest of the target, which is 1,024 bytes on Arm and 4,096 or more elsewhere, and the description comes at the very end.
/// What tells it is where the next record lies: it follows a whole page, or names the page that comes next.
/// </summary>
internal ref struct PageSizeProbe
{
    /// <summary>No target has smaller pages, so that the flags of a record lie below and its offset is a multiple of this.</summary>
    internal const int Smallest = 1024;

    /// <summary>The id of the section, which its footer repeats.</summary>
    internal required uint SectionId { get; init; }

    /// <summary>The block that the page belongs to.</summary>
    internal required RamBlock Block { get; init; }

    /// <summary>All blocks of the list.</summary>
    internal required IReadOnlyList<RamBlock> Blocks { get; init; }

    /// <summary>Where the page lies in its block.</summary>
    internal required long PageOffset { get; init; }

    /// <summary>True if the page itself is in the stream; false for what stands for it.</summary>
    internal required bool IsWhole { get; init; }

    /// <summary>How many bytes what stands for the page has.</summary>
    internal int EncodedLength { get; init; }

    /// <summary>True if no bytes will come behind those at hand.</summary>
    internal required bool Last { get; init; }

    /// <summary>The size, or null if more bytes are needed to tell. Never more than the page and the record behind it.</summary>
    /// <param name="data">The bytes behind the page's record word and name.</param>
    internal readonly int? Find(ReadOnlySpan<byte> data)
    {
        // From the smallest: when one has been ruled out, the page is longer, and more of it is sure to come. What stands for a page
        // tells less: the next offset is that of the next page, or of a later one.
        for (int size = Smallest; size <= (IsWhole ? StreamFormat.MaxPageSize : Smallest); size *= 2)
        {
            if (PageOffset % size != 0 || Block.Length % size != 0)
            {
                break;
            }

            int next = IsWhole ? size : EncodedLength;
            switch (next <= data.Length ? Follows(data[next..], size) : null)
            {
                case true:
                    return size;
                case null when !Last:
                    return null;
            }
        }

        // The only page of its kind: what most targets have, unless its place says otherwise.
        int usual = StreamFormat.DefaultPageSize;
        return PageOffset % usual == 0 && Block.Length % usual == 0 ? usual : Smallest;
    }

    // Null if the bytes at hand do not tell.
    private readonly bool? Follows(ReadOnlySpan<byte> data, int size)
    {
        if (data.Length < sizeof(ulong))
        {
            return null;
        }

        ulong word = BinaryPrimitives.ReadUInt64BigEndian(data);
        data = data[sizeof(ulong)..];
        ulong flags = word & (Smallest - 1);
        ulong offset = word - flags;
        if (RamBody.IsPage(flags & ~RamBody.Continue) && (flags & RamBody.Continue) != 0)
        {
            return offset == (ulong)(PageOffset + size)
                || (IsWhole && offset % (ulong)size == 0 && offset < (ulong)Block.Length && offset != (ulong)PageOffset);
        }

        if (!IsWhole)
        {
            return false;
        }

        if (word == RamBody.EndOfSection)
        {
            return data.Length < SectionHeaders.FooterLength ? null
                : data[0] == StreamFormat.Footer && BinaryPrimitives.ReadUInt32BigEndian(data[1..]) == SectionId;
        }

        return RamBody.IsPage(flags) && offset % (ulong)size == 0 ? StartsWithName(data, offset) : false;
    }

    private readonly bool? StartsWithName(ReadOnlySpan<byte> data, ulong offset)
    {
        if (data.Length == 0 || data.Length <= data[0])
        {
            return null;
        }

        var name = data.Slice(1, data[0]);
        foreach (var block in Blocks)
        {
            if (name.SequenceEqual(block.NameBytes))
            {
                return offset < (ulong)block.Length;
            }
        }

        return false;
    }
}
