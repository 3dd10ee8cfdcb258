using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// A VFIO device's sections: markers, device state with its length, and the config state between two markers of its own. The config state
/// has no length: where the section's footer follows it, that confirms its end.
/// </summary>
internal sealed class VfioBody : ISectionBody
{
    private readonly WalkContext _context;
    private readonly bool _hasFooter;
    private long _dataLeft;
    private long _configLength;

    /// <summary>A body in a stream.</summary>
    /// <param name="context">The stream around it.</param>
    /// <param name="hasFooter">False where the bodies are stored alone, or where nothing behind one may be looked at.</param>
    internal VfioBody(WalkContext context, bool hasFooter = true) => (_context, _hasFooter) = (context, hasFooter);

    /// <summary>True inside a block of data or a config state, where an end of the bytes cuts it.</summary>
    internal bool IsInside => _dataLeft > 0 || _configLength > 0;

    /// <inheritdoc/>
    public bool Read(StreamSection section, ref WireReader reader, bool last)
    {
        while (true)
        {
            if (_dataLeft > 0 && !ReadData(section, ref reader))
            {
                return false;
            }

            if (_configLength > 0)
            {
                return ReadConfig(section, ref reader, last);
            }

            switch (ReadMarker(section, ref reader))
            {
                case null:
                    return false;
                case true:
                    return true;
            }
        }
    }

    /// <summary>How many bytes more are needed for the next step, never one beyond the body: for a source that must not be read ahead.</summary>
    /// <param name="held">The bytes that were given and not used.</param>
    /// <param name="most">The most that can be held.</param>
    internal int CountNeededBytes(ReadOnlySpan<byte> held, int most)
    {
        var reader = WireReader.BigEndian(held);
        return _dataLeft > 0 ? (int)Math.Min(_dataLeft, most)
            : !VfioMarkerCodec.TryRead(ref reader, out var marker) ? VfioMarkerCodec.Size - held.Length
            : _configLength == 0 && marker == VfioMarker.DataState ? VfioMarkerCodec.DataHeadSize - held.Length
            : 1;
    }

    private bool ReadData(StreamSection section, ref WireReader reader)
    {
        int count = (int)Math.Min(_dataLeft, reader.Remaining);
        if (count > 0)
        {
            _context.Visitor.OnVfioData(section, reader.Rest[..count]);
        }

        _context.Pass(section, ref reader, count);
        _dataLeft -= count;
        return _dataLeft == 0;
    }

    // True at the end of the section, null if bytes are lacking.
    private bool? ReadMarker(StreamSection section, ref WireReader reader)
    {
        var r = reader;
        if (!VfioMarkerCodec.TryRead(ref r, out var marker))
        {
            return null;
        }

        ulong length = 0;
        if (marker == VfioMarker.DataState && !r.TryReadUInt64(out length))
        {
            return null;
        }

        if (!Enum.IsDefined(marker) || length > long.MaxValue)
        {
            throw WalkContext.Failure(StreamError.InvalidMarker, section, reader.Offset, length > 0
                ? $"VFIO data of {length:N0} bytes is announced"
                : $"Expected a marker of a VFIO section, found 0x{(ulong)marker:x16}");
        }

        _context.Visitor.OnVfioMarker(section, marker, reader.Offset, (long)length);
        _dataLeft = (long)length;
        if (marker == VfioMarker.ConfigState)
        {
            PassConfig(section, ref reader, VfioMarkerCodec.Size);
            return _configLength > 0 && ReadConfig(section, ref reader, last: false) ? true : null;
        }

        _context.Pass(section, ref reader, r.Position - reader.Position);
        return marker is VfioMarker.EndOfState or VfioMarker.InitDataSent;
    }

    private bool ReadConfig(StreamSection section, ref WireReader reader, bool last)
    {
        Span<byte> end = stackalloc byte[VfioMarkerCodec.Size + SectionHeaders.FooterLength];
        VfioMarkerCodec.Write(end, VfioMarker.EndOfState);
        SectionHeaders.WriteFooter(end[VfioMarkerCodec.Size..], section.Id);
        end = _hasFooter && _context.HasFooters != false ? end : end[..VfioMarkerCodec.Size];
        int found = reader.Rest.IndexOf(end);
        if (found >= 0)
        {
            long offset = reader.Offset + found;
            PassConfig(section, ref reader, found + VfioMarkerCodec.Size);
            _configLength = 0;
            _context.Visitor.OnVfioMarker(section, VfioMarker.EndOfState, offset, 0);
            return true;
        }

        PassConfig(section, ref reader, last ? reader.Remaining : Math.Max(0, reader.Remaining - end.Length + 1));
        return _configLength <= ConfigState.Limit ? false
            : throw WalkContext.Failure(StreamError.TruncatedConfig, section, reader.Offset, $"The config state does not end within {ConfigState.Limit:N0} bytes");
    }

    private void PassConfig(StreamSection section, ref WireReader reader, int count)
    {
        if (count > 0)
        {
            _context.Visitor.OnVfioConfig(section, reader.Rest[..count]);
        }

        _context.Pass(section, ref reader, count);
        _configLength += count;
    }
}
