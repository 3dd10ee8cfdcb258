using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Sections of "dirty-bitmap": chunks that flags head, until one with the EOS flag.</summary>
internal sealed class DirtyBitmapBody(WalkContext context) : ISectionBody
{
    private const uint EndOfSection = 0x01;
    private const uint Zeroes = 0x02;
    private const uint BitmapName = 0x04;
    private const uint NodeName = 0x08;
    private const uint Start = 0x10;
    private const uint Complete = 0x20;
    private const uint Bits = 0x40;
    private const uint ExtraFlags = 0x80;

    private long _bufferLeft;
    private bool _ends;

    public bool Read(StreamSection section, ref WireReader reader, bool last)
    {
        while (true)
        {
            if (_bufferLeft > 0)
            {
                int count = (int)Math.Min(_bufferLeft, reader.Remaining);
                context.Pass(section, ref reader, count);
                _bufferLeft -= count;
                if (_bufferLeft > 0)
                {
                    return false;
                }
            }

            if (_ends)
            {
                _ends = false;
                return true;
            }

            var r = reader;
            if (!TryReadChunk(section, ref r))
            {
                return false;
            }

            context.Pass(section, ref reader, r.Position - reader.Position);
        }
    }

    private bool TryReadChunk(StreamSection section, ref WireReader r)
    {
        long at = r.Offset;
        if (!r.TryReadByte(out byte flags))
        {
            return false;
        }

        const uint Known = EndOfSection | Zeroes | BitmapName | NodeName | Start | Complete | Bits;
        if ((flags & ExtraFlags) != 0 || (flags & ~Known) != 0)
        {
            throw WalkContext.Failure(StreamError.UnknownElement, section, at, $"A dirty-bitmap chunk has flags 0x{flags:x2}");
        }

        if (((flags & NodeName) != 0 && !TrySkipName(ref r)) || ((flags & BitmapName) != 0 && !TrySkipName(ref r)))
        {
            return false;
        }

        ulong buffer = 0;
        if ((flags & Start) != 0)
        {
            // Granularity and the bitmap's own flags.
            if (!r.TryReadBytes(5, out _))
            {
                return false;
            }
        }
        else if ((flags & Bits) != 0)
        {
            if (!r.TryReadBytes(12, out _) || ((flags & Zeroes) == 0 && !r.TryReadUInt64(out buffer)))
            {
                return false;
            }

            if (buffer > uint.MaxValue)
            {
                throw WalkContext.Failure(StreamError.UnknownElement, section, at, $"A dirty-bitmap chunk of {buffer:N0} bytes is announced");
            }
        }

        _bufferLeft = (long)buffer;
        _ends = (flags & EndOfSection) != 0;
        return true;
    }

    private static bool TrySkipName(ref WireReader r) => r.TryReadByte(out byte length) && r.TryReadBytes(length, out _);
}
