using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>A VFIO device's START, PART and END sections: markers, and device state with its length.</summary>
internal sealed class VfioBody(WalkContext context) : ISectionBody
{
    private const int MarkerLength = 8;

    private long _dataLeft;

    public bool Read(StreamSection section, ref WireReader reader, bool last)
    {
        while (true)
        {
            if (_dataLeft > 0)
            {
                int count = (int)Math.Min(_dataLeft, reader.Remaining);
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

            var marker = (VfioMarker)word;
            ulong length = 0;
            switch (marker)
            {
                case VfioMarker.DataState:
                    if (!r.TryReadUInt64(out length))
                    {
                        return false;
                    }

                    if (length > long.MaxValue)
                    {
                        throw WalkContext.Failure(StreamError.UnknownElement, section, reader.Offset, $"VFIO data of {length:N0} bytes is announced");
                    }

                    break;
                case VfioMarker.SetupState or VfioMarker.EndOfState or VfioMarker.InitDataSent:
                    break;
                default:
                    throw WalkContext.Failure(StreamError.UnknownElement, section, reader.Offset,
                        $"0x{word:x16} is no marker of a VFIO {section.Kind} section");
            }

            context.Visitor.OnVfioMarker(section, marker, reader.Offset, (long)length);
            context.Pass(section, ref reader, marker == VfioMarker.DataState ? 2 * MarkerLength : MarkerLength);
            _dataLeft = (long)length;
            if (marker is VfioMarker.EndOfState or VfioMarker.InitDataSent)
            {
                return true;
            }
        }
    }
}
