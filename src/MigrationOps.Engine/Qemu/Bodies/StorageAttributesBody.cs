using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Sections of "s390-storage_attributes": words of an address and flags, attributes behind some, until one that ends the section.</summary>
internal sealed class StorageAttributesBody(WalkContext context) : ISectionBody
{
    private const ulong EndOfSection = 0x01;
    private const ulong More = 0x02;
    private const ulong Done = 0x08;
    private const ulong FlagMask = 0xfff;

    // What one word may announce; QEMU sends a few hundred KiB at once.
    private const ulong MaxAttributes = 1 << 30;

    private long _dataLeft;
    private bool _done;

    public bool Read(StreamSection section, ref WireReader reader, bool last)
    {
        while (true)
        {
            int count = (int)Math.Min(_dataLeft, reader.Remaining);
            context.Pass(section, ref reader, count);
            _dataLeft -= count;
            if (_dataLeft > 0)
            {
                return false;
            }

            var r = reader;
            if (!r.TryReadUInt64(out ulong word))
            {
                return _done && last;
            }

            ulong flags = word & FlagMask;
            if (_done && word != EndOfSection)
            {
                // The end mark may be absent behind the last attributes.
                _done = false;
                return true;
            }

            ulong length = 0;
            switch (flags)
            {
                case EndOfSection or Done:
                    break;
                case More when !r.TryReadUInt64(out length):
                    return false;
                case More when length <= MaxAttributes:
                    break;
                default:
                    throw WalkContext.Failure(StreamError.UnknownElement, section, reader.Offset,
                        $"A storage-attributes record has flags 0x{flags:x} and announces {length:N0} bytes");
            }

            context.Pass(section, ref reader, r.Position - reader.Position);
            (_dataLeft, _done) = ((long)length, flags == Done);
            if (flags == EndOfSection)
            {
                return true;
            }
        }
    }
}
