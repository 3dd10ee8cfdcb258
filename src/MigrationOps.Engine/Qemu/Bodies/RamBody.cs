using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// The body of "ram" sections: 64-bit words of a page's offset and flags, and the block list at the start. It steps over
/// guest memory page by page, and over the page area of mapped-ram at once.
/// </summary>
internal sealed class RamBody(WalkContext context) : ISectionBody
{
    internal const uint Version = 4;

    internal const ulong EndOfSection = 0x10;
    internal const ulong Continue = 0x20;

    private const ulong Zero = 0x02;
    private const ulong MemSize = 0x04;
    private const ulong Page = 0x08;
    private const ulong Xbzrle = 0x40;
    private const ulong Hook = 0x80;
    private const ulong CompressPage = 0x100;
    private const ulong MultifdFlush = 0x200;

    private const byte XbzrleEncoding = 1;
    private const int MaxBlocks = 4096;
    private const uint MappedRamVersion = 1;
    private const long MappedRamAlignment = 1 << 20;

    private readonly List<RamBlock> _blocks = [];
    private bool _listed;
    private long _listLeft;
    private RamBlock? _current;
    private RamBlock? _bitmapOf;
    private long _bitmapLeft;
    private long _bitmapPage;
    private long? _mappedShift;

    public bool Read(StreamSection section, ref WireReader reader, bool last)
    {
        while (true)
        {
            if (_bitmapOf is not null)
            {
                if (!ReadBitmap(ref reader))
                {
                    return false;
                }
            }
            else if (_listLeft > 0)
            {
                if (!ReadBlock(section, ref reader))
                {
                    return false;
                }
            }
            else
            {
                switch (ReadWord(section, ref reader, last))
                {
                    case null:
                        return false;
                    case true:
                        return true;
                }
            }
        }
    }

    /// <summary>Reads a word and what belongs to it: true at the section's end, null if bytes are lacking.</summary>
    private bool? ReadWord(StreamSection section, ref WireReader reader, bool last)
    {
        var r = reader;
        if (!r.TryReadUInt64(out ulong word))
        {
            return null;
        }

        ulong flags = word & (PageSizeProbe.Smallest - 1);
        long address = (long)(word - flags);
        switch (flags & ~Continue)
        {
            case Page or Zero or Xbzrle or CompressPage:
                if (!ReadPage(section, ref r, flags, address, last))
                {
                    return null;
                }

                break;
            case EndOfSection when flags == EndOfSection && address == 0:
                reader = r;
                return true;
            case MultifdFlush when flags == MultifdFlush && address == 0:
                context.Visitor.OnMultifdFlush();
                break;
            case MemSize when flags == MemSize && !_listed:
                // A machine without memory of its own has a list of nothing.
                (_listed, _listLeft) = (true, address);
                break;
            case MemSize when flags == MemSize:
                throw WalkContext.Failure(StreamError.InvalidRam, section, reader.Offset, "A second list of RAM blocks comes");
            case Hook:
                throw WalkContext.Failure(StreamError.InvalidRam, section, reader.Offset, "An RDMA hook comes, which has no meaning outside RDMA");
            default:
                throw WalkContext.Failure(StreamError.InvalidRam, section, reader.Offset,
                    $"The word 0x{word:x16} has flags 0x{flags:x} that do not exist or do not go together");
        }

        reader = r;
        return false;
    }

    /// <summary>True for the flag of a record that is a page or stands for one.</summary>
    internal static bool IsPage(ulong flag) => flag is Page or Zero or Xbzrle or CompressPage;

    private bool ReadPage(StreamSection section, ref WireReader r, ulong flags, long pageOffset, bool last)
    {
        long at = r.Offset - 8;
        var block = _current;
        if ((flags & Continue) == 0)
        {
            if (!r.TryReadByte(out byte length) || !r.TryReadBytes(length, out var name))
            {
                return false;
            }

            block = Find(name) ?? throw WalkContext.Failure(StreamError.InvalidRam, section, at,
                $"A page belongs to the RAM block '{Encoding.UTF8.GetString(name)}', which the list does not have");
        }

        if (block is null)
        {
            throw WalkContext.Failure(StreamError.InvalidRam, section, at, "A page continues a RAM block, but none came before");
        }

        if (pageOffset < 0 || pageOffset >= block.Length)
        {
            throw WalkContext.Failure(StreamError.InvalidRam, section, at,
                $"A page lies at 0x{pageOffset:x} of RAM block '{block.Name}', which is 0x{block.Length:x} bytes long");
        }

        if (context.KnownPageSize is null && !TryFindPageSize(section, r, flags & ~Continue, block, pageOffset, last))
        {
            return false;
        }

        if (pageOffset % context.PageSize != 0)
        {
            throw WalkContext.Failure(StreamError.InvalidRam, section, at,
                $"A page lies at 0x{pageOffset:x} of RAM block '{block.Name}', which is no multiple of the {context.PageSize:N0} bytes of a page");
        }

        if (!TryReadPageData(section, ref r, flags & ~Continue, at, out var kind, out var data))
        {
            return false;
        }

        _current = block;
        context.Visitor.OnRamPage(block, pageOffset, kind, data);
        return true;
    }

    private bool TryFindPageSize(StreamSection section, WireReader r, ulong flag, RamBlock block, long pageOffset, bool last)
    {
        int encoded = 0;
        if (flag != Page)
        {
            var data = r;
            if (!TryReadPageData(section, ref data, flag, r.Offset, out _, out _))
            {
                return false;
            }

            encoded = data.Position - r.Position;
        }

        int? size = new PageSizeProbe
        {
            SectionId = section.Id,
            Block = block,
            Blocks = _blocks,
            PageOffset = pageOffset,
            IsWhole = flag == Page,
            EncodedLength = encoded,
            Last = last,
        }.Find(r.Rest);
        if (size is not null && size != context.PageSize)
        {
            context.Visitor.OnPageSize(size.Value);
        }

        context.KnownPageSize = size;
        return size is not null;
    }

    private bool TryReadPageData(
        StreamSection section, ref WireReader r, ulong flag, long at, out RamPageKind kind, out ReadOnlySpan<byte> data)
    {
        data = default;
        switch (flag)
        {
            case Page:
                kind = RamPageKind.Normal;
                return r.TryReadBytes((int)context.PageSize, out data);
            case Zero:
                kind = RamPageKind.Fill;
                return r.TryReadBytes(1, out data);
            case Xbzrle:
                kind = RamPageKind.Xbzrle;
                if (!r.TryReadByte(out byte encoding) || !r.TryReadUInt16(out ushort length))
                {
                    return false;
                }

                if (encoding != XbzrleEncoding || length > context.PageSize)
                {
                    throw WalkContext.Failure(StreamError.InvalidRam, section, at,
                        $"An XBZRLE page has encoding {encoding} and {length:N0} bytes for a page of {context.PageSize:N0}");
                }

                return r.TryReadBytes(length, out data);
            default:
                kind = RamPageKind.Compressed;
                if (!r.TryReadUInt32(out uint compressed))
                {
                    return false;
                }

                if (compressed == 0 || compressed > context.PageSize * 2)
                {
                    throw WalkContext.Failure(StreamError.InvalidRam, section, at,
                        $"A compressed page has {compressed:N0} bytes for a page of {context.PageSize:N0}");
                }

                return r.TryReadBytes((int)compressed, out data);
        }
    }

    private bool ReadBlock(StreamSection section, ref WireReader reader)
    {
        var r = reader;
        if (!r.TryReadByte(out byte length) || !r.TryReadBytes(length, out var name) || !r.TryReadUInt64(out ulong size))
        {
            return false;
        }

        if (!StreamText.IsName(name) || Find(name) is not null)
        {
            throw WalkContext.Failure(StreamError.InvalidRam, section, reader.Offset, length == 0 || !StreamText.IsName(name)
                ? "A RAM block has no readable name" : $"The RAM block '{Encoding.UTF8.GetString(name)}' is listed twice");
        }

        string text = Encoding.UTF8.GetString(name);
        if (size > (ulong)_listLeft || size % (ulong)(context.KnownPageSize ?? PageSizeProbe.Smallest) != 0)
        {
            throw WalkContext.Failure(StreamError.InvalidRam, section, reader.Offset,
                $"The RAM block '{text}' has 0x{size:x} bytes, which is no number of pages or more than the 0x{_listLeft:x} that the list has left");
        }

        if (_blocks.Count == MaxBlocks)
        {
            throw WalkContext.Failure(StreamError.LimitExceeded, section, reader.Offset, $"More than {MaxBlocks:N0} RAM blocks are listed");
        }

        var block = new RamBlock(_blocks.Count, text, (long)size) { NameBytes = name.ToArray() };
        if (!TryReadHostPageSize(ref r, ref block) || !TryReadAddress(ref r, ref block) || !TryReadMappedHeader(section, ref r, ref block))
        {
            return false;
        }

        reader = r;
        _blocks.Add(block);
        _listLeft -= block.Length;
        context.Visitor.OnRamBlock(block);
        if (block.BitmapOffset is not null)
        {
            _bitmapOf = block;
            _bitmapPage = 0;
            _bitmapLeft = BitmapLength(block);
        }

        return true;
    }

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

        if (context.KnownPageSize is null && pageSize is >= PageSizeProbe.Smallest and <= StreamFormat.MaxPageSize && ulong.IsPow2(pageSize))
        {
            context.KnownPageSize = (long)pageSize;
            context.Visitor.OnPageSize((int)pageSize);
        }

        // The header has offsets in the file, which starts before the stream if that was written at an offset.
        long shift = (long)bitmap - r.Offset;
        ulong expectedPages = (bitmap + (ulong)BitmapLength(block) + MappedRamAlignment - 1) & ~(ulong)(MappedRamAlignment - 1);
        if (version != MappedRamVersion || pageSize != (ulong)context.PageSize || shift < 0 || (_mappedShift ?? shift) != shift
            || pages != expectedPages)
        {
            throw WalkContext.Failure(StreamError.InvalidRam, section, at,
                $"The mapped-ram header of RAM block '{block.Name}' cannot be: version {version}, pages of {pageSize:N0} bytes, bitmap at {bitmap:N0}, pages at {pages:N0}");
        }

        _mappedShift = shift;
        block = block with { BitmapOffset = (long)bitmap - shift, PagesOffset = (long)pages - shift };
        return true;
    }

    private bool ReadBitmap(ref WireReader reader)
    {
        var block = _bitmapOf!;
        int count = (int)Math.Min(_bitmapLeft, reader.Remaining);
        if (_bitmapLeft > count)
        {
            count &= ~7;
        }

        if (count > 0)
        {
            reader.TryReadBytes(count, out var bits);
            context.Visitor.OnRamBitmap(block, _bitmapPage, bits);
            _bitmapLeft -= count;
            _bitmapPage += count * 8L;
        }

        if (_bitmapLeft > 0)
        {
            return false;
        }

        _bitmapOf = null;
        context.PendingSkip = block.PagesOffset!.Value + block.Length - reader.Offset;
        return false;
    }

    private long BitmapLength(RamBlock block) => ((block.Length / context.PageSize) + 63) / 64 * 8;

    private RamBlock? Find(ReadOnlySpan<byte> name)
    {
        foreach (var block in _blocks)
        {
            if (name.SequenceEqual(block.NameBytes))
            {
                return block;
            }
        }

        return null;
    }
}
