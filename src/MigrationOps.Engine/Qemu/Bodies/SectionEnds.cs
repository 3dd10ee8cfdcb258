using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Whether bytes can be what follows a section.</summary>
internal static class SectionEnds
{
    // Ids count the handlers of a machine from 0, and layouts have had few versions.
    private const uint MaxId = 0xffff;
    private const uint MaxVersion = 1000;
    private const int MinZeros = 64;

    /// <summary>Whether a section's end may be followed by these bytes; null if more of them are needed to tell.</summary>
    /// <param name="next">The bytes behind the end.</param>
    /// <param name="offset">Where they lie.</param>
    /// <param name="last">True at the end of the input.</param>
    /// <param name="context">What the stream has had so far.</param>
    internal static bool? CanFollow(ReadOnlySpan<byte> next, long offset, bool last, WalkContext context)
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
                return CanFollowEof(r.Rest, last);
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

    /// <summary>Whether a header that no footer announces may lie here: every part of it has to be what QEMU writes.</summary>
    internal static bool? IsHeader(ReadOnlySpan<byte> next, bool last, WalkContext context)
    {
        var r = WireReader.BigEndian(next);
        bool? lacking = last ? false : null;
        if (!r.TryReadByte(out byte type) || !r.TryReadUInt32(out uint id))
        {
            return lacking;
        }

        // virtio-mem has a FULL section before the iterations of RAM.
        if (type is StreamFormat.Part or StreamFormat.End)
        {
            return context.Sections.TryGetValue(id, out var entry) && entry.Body is { } body ? body.MustStart(r.Rest) ?? lacking : false;
        }

        if (!r.TryReadByte(out byte length))
        {
            return lacking;
        }

        if (type is not (StreamFormat.Start or StreamFormat.Full) || id > MaxId || length < 2 || context.Sections.ContainsKey(id))
        {
            return false;
        }

        int here = Math.Min(length, r.Remaining);
        var name = r.Rest[..here];
        if (!IsHandlerName(name, isWhole: here == length) || (type == StreamFormat.Start && here == length && !IsIterative(name)))
        {
            return false;
        }

        return !r.TryReadBytes(length, out _) || !r.TryReadUInt32(out _) || !r.TryReadUInt32(out uint version) ? lacking : version <= MaxVersion;
    }

    /// <summary>Whether the bytes behind a zero byte make it the EOF mark; null if more of them are needed.</summary>
    /// <remarks>A description follows it; or nothing; or what a volume had before: zeros, or an older state.</remarks>
    internal static bool? CanFollowEof(ReadOnlySpan<byte> next, bool last)
    {
        if (next.IsEmpty)
        {
            return last ? true : null;
        }

        if (next[0] == StreamFormat.Description)
        {
            // Its JSON starts with a brace.
            return next.Length < 6 ? (last ? true : null) : (next[1] == 0 && next[5] == (byte)'{');
        }

        if (next.Length < 8 && !last)
        {
            return next.ContainsAnyExcept((byte)0) && !"QEVM"u8.StartsWith(next[..Math.Min(4, next.Length)]) ? false : null;
        }

        if (next.StartsWith("QEVM\0\0\0"u8))
        {
            return true;
        }

        var zeros = next[..Math.Min(MinZeros, next.Length)];
        return zeros.ContainsAnyExcept((byte)0) ? false : next.Length >= MinZeros || last ? true : null;
    }

    private static bool IsHandlerName(ReadOnlySpan<byte> name, bool isWhole)
    {
        bool letter = false;
        foreach (byte b in name)
        {
            if (!char.IsAsciiLetterOrDigit((char)b) && !"_./:,+@()-# []"u8.Contains(b))
            {
                return false;
            }

            letter |= char.IsAsciiLetter((char)b);
        }

        return letter || !isWhole;
    }

    private static bool IsIterative(ReadOnlySpan<byte> name)
        => Encoding.ASCII.GetString(name) is "ram" or "block" or "dirty-bitmap" or "spapr/htab" or "s390-storage_attributes" || name.EndsWith("vfio"u8);
}
