using System.Buffers.Binary;
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

    internal const ulong Zero = 0x02;
    internal const ulong MemSize = 0x04;
    internal const ulong Page = 0x08;
    private const ulong Xbzrle = 0x40;
    private const ulong Hook = 0x80;
    private const ulong CompressPage = 0x100;
    private const ulong MultifdFlush = 0x200;
    internal const ulong AllFlags = 0x3ff;

    private const byte XbzrleEncoding = 1;
    private const int MaxBlocks = 4096;

    private readonly List<RamBlock> _blocks = [];
    private readonly RamBlockExtras _extras = new(context);
    private ulong _places;
    private bool _listed;
    private long _listLeft;
    private RamBlock? _current;
    private RamBlock? _bitmapOf;
    private long _bitmapLeft;
    private long _bitmapPage;

    /// <summary>A body with the same blocks, for pages that come over a connection of their own beside this one.</summary>
    internal RamBody Fork()
    {
        var fork = new RamBody(context) { _listed = true };
        fork._blocks.AddRange(_blocks);
        return fork;
    }

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
            else if (!TryReadNext(ref reader))
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

    // What most of a stream consists of, without a copy of the reader: a page, or the byte that fills it, of the same block as the page
    // before. False for everything else, and for what is wrong: the whole way names it.
    private bool TryReadNext(ref WireReader reader)
    {
        var rest = reader.Rest;
        if (_current is not { } block || context.KnownPageSize is not { } size || rest.Length <= sizeof(ulong))
        {
            return false;
        }

        ulong word = BinaryPrimitives.ReadUInt64BigEndian(rest);
        ulong flags = word & Math.Min((ulong)size - 1, AllFlags);
        ulong offset = word - flags;
        int length = flags == (Page | Continue) ? (int)size : flags == (Zero | Continue) ? 1 : int.MaxValue;
        if (rest.Length - sizeof(ulong) < length || offset >= (ulong)block.Length || (offset & ((ulong)size - 1)) != 0)
        {
            return false;
        }

        reader.TryReadBytes(sizeof(ulong) + length, out var record);
        context.Visitor.OnRamPage(block, (long)offset, length == 1 ? RamPageKind.Fill : RamPageKind.Normal, record[sizeof(ulong)..]);
        return true;
    }

    /// <summary>Reads a word and its data: true at the section's end, null if bytes are lacking.</summary>
    private bool? ReadWord(StreamSection section, ref WireReader reader, bool last)
    {
        var r = reader;
        if (!r.TryReadUInt64(out ulong word))
        {
            return null;
        }

        ulong flags = word & FlagMask(word);
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
                context.Visitor.OnMultifdFlush(reader.Offset);
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
                    $"The word 0x{word:x16} has flags 0x{flags:x} that do not exist or do not go together",
                    "Compare the capabilities of source and destination (multifd, xbzrle, compress, mapped-ram, x-ignore-shared): where they differ, one side writes what the other takes for something else. If they are the same, the bytes are damaged there.");
        }

        reader = r;
        return false;
    }

    /// <summary>Which bits of a word are flags: those below the page size, which lie no higher than 0x200.</summary>
    private ulong FlagMask(ulong word)
    {
        if (context.KnownPageSize is { } size)
        {
            return Math.Min((ulong)size - 1, AllFlags);
        }

        // Only pages of 256 or 512 bytes have offsets in bits 8 and 9, and the two flags there come alone or with CONTINUE.
        ulong low = word & (StreamFormat.MinPageSize - 1) & ~Continue;
        return low == 0 ? AllFlags : StreamFormat.MinPageSize - 1;
    }

    public bool? MustStart(ReadOnlySpan<byte> data)
    {
        if (data.Length < sizeof(ulong))
        {
            return null;
        }

        // A page with its block's name, or the end of an iteration without any.
        ulong word = BinaryPrimitives.ReadUInt64BigEndian(data);
        data = data[sizeof(ulong)..];
        return word == EndOfSection ? true
            : !IsPage(word & FlagMask(word)) ? false
            : data.IsEmpty || data.Length <= data[0] ? null
            : Find(data.Slice(1, data[0])) is not null;
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
                $"A page names the RAM block '{Encoding.UTF8.GetString(name)}', which is not in the list");
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

        if (context.KnownPageSize is null)
        {
            if ((flags & ~Continue) == Page && !TryFindPageSize(section, r, block, pageOffset, last))
            {
                return false;
            }

            NotePlace(pageOffset);
        }

        if (pageOffset % context.PageSize != 0)
        {
            throw WalkContext.Failure(StreamError.InvalidRam, section, at,
                $"A page lies at 0x{pageOffset:x} of RAM block '{block.Name}', which is not a multiple of the {context.PageSize:N0} bytes of a page");
        }

        if (!TryReadPageData(section, ref r, flags & ~Continue, at, out var kind, out var data))
        {
            return false;
        }

        _current = block;
        context.Visitor.OnRamPage(block, pageOffset, kind, data);
        return true;
    }

    private bool TryFindPageSize(StreamSection section, WireReader r, RamBlock block, long pageOffset, bool last)
    {
        int? size = new PageSizeProbe
        {
            SectionId = section.Id,
            Block = block,
            Blocks = _blocks,
            PageOffset = pageOffset,
            Largest = LargestPageSize(pageOffset),
            HasFooters = context.HasFooters,
            Last = last,
        }.Find(r.Rest);
        if (size is null)
        {
            return false;
        }

        bool isNew = size != context.PageSize;
        context.KnownPageSize = size;
        if (isNew)
        {
            context.Visitor.OnPageSize(size.Value);
        }

        return true;
    }

    // What stands for a page (a byte, changes) does not show its size. Its place does: it is a multiple of the size, and once
    // all pages have come, no larger number divides all places.
    private void NotePlace(long pageOffset)
    {
        if (context.KnownPageSize is not null)
        {
            return;
        }

        _places |= (ulong)pageOffset;
        long size = _places == 0 ? Math.Min(StreamFormat.DefaultPageSize, LargestPageSize(0)) : LargestPageSize(0);
        if (size != context.PageSize)
        {
            context.LikelyPageSize = size;
            context.Visitor.OnPageSize((int)size);
        }
    }

    private long LargestPageSize(long pageOffset)
    {
        ulong places = _places | (ulong)pageOffset | StreamFormat.MaxPageSize;
        foreach (var block in _blocks)
        {
            places |= (ulong)block.Length;
        }

        return Math.Max((long)(places & (~places + 1)), StreamFormat.MinPageSize);
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

    /// <summary>How many bytes follow a record of a page, as far as the first of them tell; null if they are lacking.</summary>
    internal static int? DataLength(ulong flag, ReadOnlySpan<byte> data, int pageSize) => flag switch
    {
        Page => pageSize,
        Zero => 1,
        Xbzrle => data.Length < 3 ? null : 3 + BinaryPrimitives.ReadUInt16BigEndian(data[1..]),
        _ => data.Length < 4 ? null : 4 + (int)Math.Min(BinaryPrimitives.ReadUInt32BigEndian(data), 2u * (uint)pageSize),
    };

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
        if (size > (ulong)_listLeft || size % (ulong)(context.KnownPageSize ?? StreamFormat.MinPageSize) != 0)
        {
            throw WalkContext.Failure(StreamError.InvalidRam, section, reader.Offset,
                $"The RAM block '{text}' has 0x{size:x} bytes, which is not a whole number of pages, or more than the 0x{_listLeft:x} that the list has left");
        }

        if (_blocks.Count == MaxBlocks)
        {
            throw WalkContext.Failure(StreamError.LimitExceeded, section, reader.Offset, $"More than {MaxBlocks:N0} RAM blocks are listed");
        }

        var block = new RamBlock(_blocks.Count, text, (long)size) { NameBytes = name.ToArray() };
        if (!_extras.TryRead(section, ref r, ref block))
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
            _bitmapLeft = _extras.BitmapLength(block);
        }

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
