using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Looks for the footer of a section in what a handler takes for its body. A body has no length: a handler that reads beyond its end
/// continues through what follows, mostly to the end of the stream, and the place where it went wrong is the footer that it has read over.
/// One serves all sections of a stream, of which there may be very many.
/// </summary>
internal sealed class FooterLookout
{
    // What comes later has been read by a handler that knows its lengths, or is so large that the bytes may be there by chance.
    private const int LookedAt = 256 * 1024;
    private const int Length = SectionHeaders.FooterLength;
    private const ulong Mask = (1UL << (8 * Length)) - 1;

    private ulong _footer;
    private ulong _last;
    private int _seen;

    /// <summary>Where in the body the first footer was read over; null if there was none.</summary>
    internal int? ReadOver { get; private set; }

    /// <summary>A body begins.</summary>
    internal void Begin(uint sectionId)
    {
        _footer = ((ulong)StreamFormat.Footer << 32) | sectionId;
        (_last, _seen, ReadOver) = (0, 0, null);
    }

    /// <summary>Bytes that a handler has taken.</summary>
    internal void Look(ReadOnlySpan<byte> taken)
    {
        if (ReadOver is not null || _seen >= LookedAt)
        {
            return;
        }

        // No part of a footer in the bytes before, and none begins here.
        if (_last == 0 && !taken.Contains(StreamFormat.Footer))
        {
            _seen += taken.Length;
            return;
        }

        // A footer may lie across two reads, and most reads are small.
        foreach (byte value in taken.Length < 2 * Length ? taken : taken[..(Length - 1)])
        {
            _last = ((_last << 8) | value) & Mask;
            if (++_seen >= Length && _last == _footer)
            {
                ReadOver = _seen - Length;
                return;
            }
        }

        if (taken.Length >= 2 * Length)
        {
            LookInside(taken);
        }

        if (taken.Length >= Length && !taken[^Length..].Contains(StreamFormat.Footer))
        {
            _last = 0;
        }
    }

    private void LookInside(ReadOnlySpan<byte> taken)
    {
        Span<byte> footer = stackalloc byte[Length];
        SectionHeaders.WriteFooter(footer, (uint)_footer);
        int before = _seen - (Length - 1);
        if (taken.IndexOf(footer) is >= 0 and var inside)
        {
            ReadOver = before + inside;
            return;
        }

        _seen = before + taken.Length;
        foreach (byte value in taken[^(Length - 1)..])
        {
            _last = ((_last << 8) | value) & Mask;
        }
    }
}
