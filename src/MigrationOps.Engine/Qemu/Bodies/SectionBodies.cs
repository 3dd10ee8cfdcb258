using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Chooses who knows where a section's body ends.</summary>
internal static class SectionBodies
{
    internal static ISectionBody For(SectionEntry entry, StreamSection section, WalkContext context, StreamDescription? description)
    {
        if (section.Kind == SectionKind.Full)
        {
            return description?.LengthOf(section) is { } length
                ? new FixedBody(context, length)
                : new FooterSearch(context);
        }

        // The handler's own state (the current RAM block) lives as long as the handler.
        return entry.Body ??= New(section, context);
    }

    private static ISectionBody New(StreamSection section, WalkContext context) => section.IdStr switch
    {
        StreamFormat.Ram when section.VersionId == RamBody.Version => new RamBody(context),
        StreamFormat.Ram => throw WalkContext.Failure(StreamError.UnsupportedVersion, section, section.Offset,
            $"RAM has version {section.VersionId}; {RamBody.Version} is known"),
        "dirty-bitmap" => new DirtyBitmapBody(context),
        var name when name == "vfio" || name.EndsWith("/vfio", StringComparison.Ordinal) => new VfioBody(context),
        _ => new FooterSearch(context),
    };
}

/// <summary>A body whose length the description tells.</summary>
internal sealed class FixedBody(WalkContext context, long length) : ISectionBody
{
    private long _left = length;

    public bool Read(StreamSection section, ref WireReader reader, bool last)
    {
        int count = (int)Math.Min(_left, reader.Remaining);
        context.Pass(section, ref reader, count);
        _left -= count;
        return _left == 0;
    }
}

/// <summary>
/// A body of unknown length: it ends where the section's footer stands and something that can follow a footer follows it.
/// The name, the numbers or the length of what follows make a mistake as good as impossible.
/// </summary>
internal sealed class FooterSearch(WalkContext context) : ISectionBody
{
    public bool Read(StreamSection section, ref WireReader reader, bool last)
    {
        Span<byte> footer = [StreamFormat.Footer, (byte)(section.Id >> 24), (byte)(section.Id >> 16), (byte)(section.Id >> 8), (byte)section.Id];
        var rest = reader.Rest;
        int from = 0;
        while (true)
        {
            int found = rest[from..].IndexOf(footer);
            if (found < 0)
            {
                context.Pass(section, ref reader, last ? rest.Length : Math.Max(from, rest.Length - SectionHeaders.FooterLength + 1));
                return false;
            }

            found += from;
            switch (CanFollow(rest[(found + SectionHeaders.FooterLength)..], reader.Offset + found + SectionHeaders.FooterLength, last))
            {
                case true:
                    context.Pass(section, ref reader, found);
                    return true;
                case null:
                    context.Pass(section, ref reader, found);
                    return false;
            }

            from = found + 1;
        }
    }

    /// <summary>Whether a section's end may be followed by these bytes; null if more of them are needed to tell.</summary>
    private bool? CanFollow(ReadOnlySpan<byte> next, long offset, bool last)
    {
        if (offset == context.PackageEnd)
        {
            return true;
        }

        var r = WireReader.BigEndian(next);
        if (!r.TryReadByte(out byte type))
        {
            return last ? true : null;
        }

        // At the end of a cut stream the footer itself has to do as evidence.
        bool? lacking = last ? true : null;
        switch (type)
        {
            case StreamFormat.Eof:
                return r.TryReadByte(out byte after)
                    ? after == StreamFormat.Description && (!r.TryReadUInt32(out uint length) ? lacking : length <= StreamFormat.MaxDescription) is not false
                    : lacking;
            case StreamFormat.Part or StreamFormat.End:
                return r.TryReadUInt32(out uint part) ? context.Sections.ContainsKey(part) : lacking;
            case StreamFormat.Command:
                return r.TryReadUInt16(out ushort number) && r.TryReadUInt16(out ushort size) ? CommandCodec.IsPlausible(number, size) : lacking;
            case StreamFormat.Start or StreamFormat.Full:
                return r.TryReadUInt32(out _) && r.TryReadByte(out byte count) && r.TryReadBytes(count, out var name)
                    ? StreamText.IsName(name) : lacking;
            default:
                return false;
        }
    }
}
