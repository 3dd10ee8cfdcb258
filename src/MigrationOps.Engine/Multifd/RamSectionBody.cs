using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>
/// Walks the RAM section of a main stream. With multifd it holds the list of blocks and the marks at which channels are
/// synchronised; the pages that QEMU leaves in it are passed over.
/// </summary>
internal sealed class RamSectionBody(IMainStreamObserver observer, int pageSize, bool ignoreShared) : ISectionBody
{
    private const ulong FlagMask = 0x3ff;
    private const ulong Zero = 0x02;
    private const ulong MemorySize = 0x04;
    private const ulong Page = 0x08;
    private const ulong EndOfSection = 0x10;
    private const ulong Continue = 0x20;
    private const ulong Xbzrle = 0x40;
    private const ulong Compressed = 0x100;
    private const ulong Flush = 0x200;

    private ulong _blocksLeft;
    private long _pass;
    private long _offset;

    public void Begin(SectionKind kind, long offset) => _offset = offset;

    public int Parse(ReadOnlySpan<byte> data, out bool ended)
    {
        int used = _pass > 0 ? (int)Math.Min(_pass, data.Length) : 0;
        ended = false;
        if (used > 0)
        {
            _pass -= used;
        }
        else if (_blocksLeft > 0)
        {
            used = ParseBlock(data);
        }
        else
        {
            used = ParseRecord(data, out ended);
        }

        _offset += used;
        return used;
    }

    private int ParseBlock(ReadOnlySpan<byte> data)
    {
        var reader = WireReader.BigEndian(data);
        if (!TrySkipName(ref reader) || !reader.TryReadUInt64(out ulong length)
            || (ignoreShared && !reader.TryReadUInt64(out _)))
        {
            return 0;
        }

        if (length == 0 || length > _blocksLeft)
        {
            throw Invalid($"a RAM block of {length:N0} bytes does not fit the {_blocksLeft:N0} that are left of the total");
        }

        _blocksLeft -= length;
        return reader.Position;
    }

    private int ParseRecord(ReadOnlySpan<byte> data, out bool ended)
    {
        ended = false;
        var reader = WireReader.BigEndian(data);
        if (!reader.TryReadUInt64(out ulong word))
        {
            return 0;
        }

        ulong flags = word & FlagMask & ~Continue;
        bool named = flags is Zero or Page or Xbzrle or Compressed && (word & Continue) == 0;
        if (named && !TrySkipName(ref reader))
        {
            return 0;
        }

        long pass = 0;
        switch (flags)
        {
            case EndOfSection:
                ended = true;
                break;
            case Flush:
                observer.Flushed();
                break;
            case MemorySize:
                _blocksLeft = word & ~FlagMask;
                break;
            case Zero:
                pass = 1;
                break;
            case Page:
                pass = pageSize;
                break;
            case Xbzrle:
                if (!reader.TryReadByte(out _) || !reader.TryReadUInt16(out ushort encoded))
                {
                    return 0;
                }

                pass = encoded;
                break;
            case Compressed:
                if (!reader.TryReadUInt32(out uint compressed))
                {
                    return 0;
                }

                pass = compressed;
                break;
            default:
                throw Invalid($"a RAM record has the flags 0x{flags:x}, which have no meaning together");
        }

        _pass = pass;
        return reader.Position;
    }

    private static bool TrySkipName(ref WireReader reader)
        => reader.TryReadByte(out byte length) && reader.TryReadBytes(length, out _);

    private MultifdException Invalid(string what)
        => MultifdException.At(MultifdError.MainStreamInvalid, "main channel, section 'ram'", _offset, what);
}
