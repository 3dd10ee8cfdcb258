namespace MigrationOps.Engine.Qemu;

/// <summary>The page encoding of changes: lengths in LEB128 of an unchanged run and a changed one, then the changed bytes, again and again.</summary>
internal static class Xbzrle
{
    /// <summary>Changes the page.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidRam"/>.</exception>
    internal static void Apply(ReadOnlySpan<byte> encoded, Span<byte> page, string what)
    {
        int at = 0, position = 0;
        while (at < encoded.Length)
        {
            int unchanged = ReadLength(encoded, ref at);
            if (at == encoded.Length && unchanged >= 0 && position + unchanged <= page.Length)
            {
                return;
            }

            int changed = unchanged < 0 ? -1 : ReadLength(encoded, ref at);
            if (changed <= 0 || unchanged > page.Length - position || changed > page.Length - position - unchanged || changed > encoded.Length - at)
            {
                throw new StreamException(StreamError.InvalidRam, $"The changes of page {what} go beyond the page or their own end.") { Section = "ram" };
            }

            position += unchanged;
            encoded.Slice(at, changed).CopyTo(page[position..]);
            at += changed;
            position += changed;
        }
    }

    // A page's length takes two bytes at most; -1 for anything else.
    private static int ReadLength(ReadOnlySpan<byte> encoded, ref int at)
    {
        if (at >= encoded.Length)
        {
            return -1;
        }

        int value = encoded[at++];
        if (value < 0x80)
        {
            return value;
        }

        if (at >= encoded.Length || encoded[at] >= 0x80)
        {
            return -1;
        }

        return (value & 0x7f) | encoded[at++] << 7;
    }
}
