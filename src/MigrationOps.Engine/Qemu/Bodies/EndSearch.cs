using System.Buffers;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// A body of unknown length. In a stream with footers it ends where the section's footer is and something that can follow a
/// footer follows it; without footers, where a header follows that QEMU could have written, or the stream's end. Where the
/// stream has not shown yet which of both it is, the first of them counts.
/// </summary>
internal sealed class EndSearch(WalkContext context) : ISectionBody
{
    // A volume's rest is longer than the zeros that a device's state ends with.
    private const int MinRest = 4096;

    private static readonly SearchValues<byte> HeaderStarts = SearchValues.Create(StreamFormat.Start, StreamFormat.Part, StreamFormat.End, StreamFormat.Full, StreamFormat.Description);
    private static readonly SearchValues<byte> AllStarts =
        SearchValues.Create(StreamFormat.Start, StreamFormat.Part, StreamFormat.End, StreamFormat.Full, StreamFormat.Description, StreamFormat.Footer);

    public bool Read(StreamSection section, ref WireReader reader, bool last)
    {
        Span<byte> footer = [StreamFormat.Footer, (byte)(section.Id >> 24), (byte)(section.Id >> 16), (byte)(section.Id >> 8), (byte)section.Id];
        var rest = reader.Rest;
        int from = 0;
        while (true)
        {
            int found = context.HasFooters == true ? rest[from..].IndexOf(footer)
                : rest[from..].IndexOfAny(context.HasFooters == false ? HeaderStarts : AllStarts);
            if (found < 0)
            {
                return EndOfBytes(section, ref reader, from, last);
            }

            found += from;
            int end = found;
            switch (Look(rest[found..], reader.Offset + found, footer, last, ref end))
            {
                case true:
                    context.Pass(section, ref reader, end);
                    context.Visitor.OnSectionEndFound(section, isCertain: true);
                    return true;
                case null:
                    // The byte before may be the EOF mark.
                    context.Pass(section, ref reader, Math.Max(from, found - 1));
                    return false;
            }

            from = found + 1;
        }
    }

    private bool? Look(ReadOnlySpan<byte> next, long offset, ReadOnlySpan<byte> footer, bool last, ref int end)
    {
        switch (next[0])
        {
            case StreamFormat.Footer:
                return !next.StartsWith(footer) ? (next.Length < SectionHeaders.FooterLength && !last ? null : false)
                    : SectionEnds.CanFollow(next[SectionHeaders.FooterLength..], offset + SectionHeaders.FooterLength, last, context);
            case StreamFormat.Description:
                // The description's type byte; the EOF mark is the byte before.
                end--;
                return end < 0 ? false : next.Length < 6 ? (last ? false : null) : SectionEnds.CanFollowEof(next, last);
            default:
                return SectionEnds.IsHeader(next, last, context);
        }
    }

    private bool EndOfBytes(StreamSection section, ref WireReader reader, int from, bool last)
    {
        var rest = reader.Rest;
        if (!last)
        {
            // Without footers the last bytes may be the EOF mark and what is behind it.
            int kept = context.HasFooters == true ? SectionHeaders.FooterLength - 1 : 1;
            context.Pass(section, ref reader, Math.Max(from, rest.Length - kept));
            return false;
        }

        if (context.HasFooters != false || rest.IsEmpty || rest[^1] != StreamFormat.Eof)
        {
            context.Pass(section, ref reader, rest.Length);
            return false;
        }

        // Nothing marks the end but the stream's own, whose last byte is the EOF mark.
        context.Pass(section, ref reader, rest.Length - 1);
        context.Visitor.OnSectionEndFound(section, isCertain: false);
        return true;
    }
}
