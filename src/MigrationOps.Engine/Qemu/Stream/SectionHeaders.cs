using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Reads the headers and footers of sections.</summary>
internal static class SectionHeaders
{
    /// <summary>Bytes of a footer.</summary>
    internal const int FooterLength = 5;

    /// <summary>Reads the header of a START or FULL section from its type byte on.</summary>
    internal static bool TryReadStart(ref WireReader reader, [NotNullWhen(true)] out StreamSection? section)
    {
        var r = reader;
        section = null;
        if (!r.TryReadByte(out byte kind) || !r.TryReadUInt32(out uint id) || !r.TryReadByte(out byte length)
            || !r.TryReadBytes(length, out var name) || !r.TryReadUInt32(out uint instance) || !r.TryReadUInt32(out uint version))
        {
            return false;
        }

        // The words only where they are needed: a stream may have many sections.
        string idStr = StreamText.IsName(name) ? Encoding.UTF8.GetString(name) : StreamText.Read(name, reader.Offset, $"The name of section {id}");
        section = new StreamSection((SectionKind)kind, id, idStr, instance, version, reader.Offset, r.Offset);
        reader = r;
        return true;
    }

    /// <summary>Reads the header of a PART or END section from its type byte on.</summary>
    internal static bool TryReadPart(ref WireReader reader, [NotNullWhen(true)] out SectionPart? part)
    {
        var r = reader;
        part = null;
        if (!r.TryReadByte(out byte kind) || !r.TryReadUInt32(out uint id))
        {
            return false;
        }

        part = new SectionPart((SectionKind)kind, id, reader.Offset, r.Offset);
        reader = r;
        return true;
    }

    /// <summary>Writes a section's footer.</summary>
    internal static void WriteFooter(Span<byte> destination, uint id)
    {
        destination[0] = StreamFormat.Footer;
        BinaryPrimitives.WriteUInt32BigEndian(destination[1..], id);
    }

    /// <summary>Reads a footer from its type byte on.</summary>
    internal static bool TryReadFooter(ref WireReader reader, [NotNullWhen(true)] out SectionFooter? footer)
    {
        var r = reader;
        footer = null;
        if (!r.TryReadByte(out _) || !r.TryReadUInt32(out uint id))
        {
            return false;
        }

        footer = new SectionFooter(id, reader.Offset);
        reader = r;
        return true;
    }

    /// <summary>Reads the footer of a section, which is all that may follow its body.</summary>
    /// <param name="reader">The bytes at hand.</param>
    /// <param name="id">The section's id, which the footer repeats.</param>
    /// <param name="wrong">What was expected and found, if it is not the section's footer; nothing is then consumed.</param>
    internal static bool TryReadFooterOf(ref WireReader reader, uint id, out string? wrong)
    {
        var r = reader;
        wrong = null;
        if (!r.TryReadByte(out byte mark))
        {
            return false;
        }

        if (mark != StreamFormat.Footer)
        {
            wrong = $"Expected the section footer (0x{StreamFormat.Footer:x2}), found 0x{mark:x2}";
            return true;
        }

        if (!r.TryReadUInt32(out uint found))
        {
            return false;
        }

        if (found != id)
        {
            wrong = $"Expected the footer of section {id}, found that of section {found}";
            return true;
        }

        reader = r;
        return true;
    }
}
