using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Sections of "block", by which QEMU before 9.1 sent disks along (<c>migrate -b</c>): words of a sector and flags, and blocks of 1 MiB.</summary>
internal sealed class BlockBody(WalkContext context) : ISectionBody
{
    private const ulong DeviceBlock = 0x01;
    private const ulong EndOfSection = 0x02;
    private const ulong Progress = 0x04;
    private const ulong ZeroBlock = 0x08;
    private const ulong FlagMask = 0x1ff;
    private const int BlockLength = 1 << 20;

    private int _dataLeft;

    public bool Read(StreamSection section, ref WireReader reader, bool last)
    {
        while (true)
        {
            if (_dataLeft > 0)
            {
                int count = Math.Min(_dataLeft, reader.Remaining);
                context.Pass(section, ref reader, count);
                _dataLeft -= count;
                if (_dataLeft > 0)
                {
                    return false;
                }
            }

            var r = reader;
            if (!r.TryReadUInt64(out ulong word))
            {
                return false;
            }

            ulong flags = word & FlagMask;
            switch (flags)
            {
                case DeviceBlock or DeviceBlock | ZeroBlock:
                    if (!r.TryReadByte(out byte length) || !r.TryReadBytes(length, out _))
                    {
                        return false;
                    }

                    break;
                case Progress or EndOfSection:
                    break;
                default:
                    throw WalkContext.Failure(StreamError.UnknownElement, section, reader.Offset, $"A disk's word 0x{word:x16} has flags 0x{flags:x} that do not exist or do not go together");
            }

            context.Pass(section, ref reader, r.Position - reader.Position);
            _dataLeft = flags == DeviceBlock ? BlockLength : 0;
            if (flags == EndOfSection)
            {
                return true;
            }
        }
    }
}
