using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Reads what capabilities add to an entry of the list of RAM blocks: a host page size, an address, the header of mapped-ram.</summary>
internal sealed class RamBlockExtras(WalkContext context)
{
    private const uint MappedRamVersion = 1;
    private const long MappedRamAlignment = 1 << 20;

    private long? _mappedShift;

    /// <summary>Adds to the block what the stream has; false while bytes are lacking.</summary>
    internal bool TryRead(StreamSection section, ref WireReader r, ref RamBlock block)
        => TryReadHostPageSize(ref r, ref block) && TryReadAddress(ref r, ref block) && TryReadMappedHeader(section, ref r, ref block);

    /// <summary>How many bytes the bitmap of a block's written pages has.</summary>
    internal long BitmapLength(RamBlock block) => ((block.Length / context.PageSize) + 63) / 64 * 8;

    // Postcopy adds the page size of a block of huge pages only, and nothing else in the stream tells which blocks these are: the
    // word is taken for one if it is one of the sizes that POSTCOPY_ADVISE announced.
    private bool TryReadHostPageSize(ref WireReader r, ref RamBlock block)
    {
        ulong huge = context.HostPageSizes & ~(ulong)(uint)Environment.SystemPageSize & ~(ulong)context.PageSize;
        if (huge == 0)
        {
            return true;
        }

        var peek = r;
        if (!peek.TryReadUInt64(out ulong word))
        {
            return false;
        }

        if (ulong.IsPow2(word) && (word & huge) != 0 && word > 0xfff)
        {
            block = block with { HostPageSize = (long)word };
            r = peek;
        }

        return true;
    }

    private bool TryReadAddress(ref WireReader r, ref RamBlock block)
    {
        if (!context.IgnoreShared)
        {
            return true;
        }

        bool whole = r.TryReadUInt64(out ulong address);
        block = block with { Address = address };
        return whole;
    }

    private bool TryReadMappedHeader(StreamSection section, ref WireReader r, ref RamBlock block)
    {
        if (!context.MappedRam)
        {
            return true;
        }

        long at = r.Offset;
        if (!r.TryReadUInt32(out uint version) || !r.TryReadUInt64(out ulong pageSize)
            || !r.TryReadUInt64(out ulong bitmap) || !r.TryReadUInt64(out ulong pages))
        {
            return false;
        }

        if (context.KnownPageSize is null && pageSize is >= StreamFormat.MinPageSize and <= StreamFormat.MaxPageSize && ulong.IsPow2(pageSize))
        {
            context.KnownPageSize = (long)pageSize;
            context.Visitor.OnPageSize((int)pageSize);
        }

        // QEMU 11 gives a block that stays where it is neither bitmap nor pages.
        if (context.IgnoreShared && version == MappedRamVersion && bitmap == 0 && pages == 0)
        {
            return true;
        }

        // The header has offsets in the file, which starts before the stream if that was written at an offset.
        long shift = (long)bitmap - r.Offset;
        ulong expectedPages = (bitmap + (ulong)BitmapLength(block) + MappedRamAlignment - 1) & ~(ulong)(MappedRamAlignment - 1);
        if (version != MappedRamVersion || pageSize != (ulong)context.PageSize || shift < 0 || (_mappedShift ?? shift) != shift
            || pages != expectedPages)
        {
            throw WalkContext.Failure(StreamError.InvalidRam, section, at,
                $"The mapped-ram header of RAM block '{block.Name}' has version {version}, pages of {pageSize:N0} bytes, the bitmap at {bitmap:N0} and the pages at {pages:N0} of the file; expected version {MappedRamVersion}, pages of {context.PageSize:N0}, and the pages at the next MiB behind the bitmap");
        }

        _mappedShift = shift;
        block = block with { BitmapOffset = (long)bitmap - shift, PagesOffset = (long)pages - shift };
        return true;
    }
}
