using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Looks for the footer of a section in what a handler takes for its body. A body has no length: a handler that reads beyond its end
/// continues through what follows, mostly to the end of the stream, and the place where it went wrong is the footer that it has read over.
/// </summary>
internal sealed class FooterLookout(uint sectionId)
{
    // What comes later has been read by a handler that knows its lengths, or is so large that the bytes may be there by chance.
    private const int LookedAt = 256 * 1024;

    private readonly byte[] _footer = SectionHeaders.FooterOf(sectionId);
    private readonly byte[] _tail = new byte[SectionHeaders.FooterLength - 1];
    private int _tailLength;
    private int _seen;

    /// <summary>Where in the body the first footer was read over; null if there was none.</summary>
    internal int? ReadOver { get; private set; }

    /// <summary>Bytes that a handler has taken.</summary>
    internal void Look(ReadOnlySpan<byte> taken)
    {
        if (ReadOver is not null || _seen >= LookedAt)
        {
            return;
        }

        // A footer may lie across two reads.
        Span<byte> edge = stackalloc byte[2 * (SectionHeaders.FooterLength - 1)];
        _tail.AsSpan(0, _tailLength).CopyTo(edge);
        int begin = Math.Min(taken.Length, SectionHeaders.FooterLength - 1);
        taken[..begin].CopyTo(edge[_tailLength..]);
        int across = edge[..(_tailLength + begin)].IndexOf(_footer);
        int inside = across >= 0 ? -1 : taken.IndexOf(_footer);
        ReadOver = across >= 0 ? _seen - _tailLength + across : inside >= 0 ? _seen + inside : null;
        _seen += taken.Length;
        var last = begin == taken.Length ? edge[..(_tailLength + begin)] : taken;
        last = last[Math.Max(0, last.Length - _tail.Length)..];
        last.CopyTo(_tail);
        _tailLength = last.Length;
    }
}
