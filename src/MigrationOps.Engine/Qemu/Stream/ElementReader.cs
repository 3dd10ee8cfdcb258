using System.Diagnostics.CodeAnalysis;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// Reads the framing of a stream: everything that is not a section's body. False means that more bytes are needed, and that nothing
/// was consumed.
/// </summary>
internal static class ElementReader
{
    /// <summary>Reads magic and version.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.NotAStream"/>, <see cref="StreamError.UnsupportedVersion"/>.</exception>
    internal static bool TryReadHeader(ref WireReader reader)
    {
        var r = reader;
        if (!r.TryReadUInt32(out uint magic))
        {
            return false;
        }

        if (magic != StreamFormat.Magic)
        {
            throw WalkContext.Failure(StreamError.NotAStream, null, reader.Offset,
                $"This is not a migration stream: it starts with 0x{magic:x8}, not with 'QEVM' (0x{StreamFormat.Magic:x8}),");
        }

        long offset = r.Offset;
        if (!r.TryReadUInt32(out uint version))
        {
            return false;
        }

        if (version != StreamFormat.Version)
        {
            throw WalkContext.Failure(StreamError.UnsupportedVersion, null, offset, version == StreamFormat.ObsoleteVersion
                ? "This is a version 2 stream, a format that QEMU no longer reads: found"
                : $"Expected a stream of version {StreamFormat.Version}, found version {version}");
        }

        reader = r;
        return true;
    }

    /// <summary>Reads the element that starts here, outside any section's body.</summary>
    internal static bool TryRead(ref WireReader reader, [NotNullWhen(true)] out StreamElement? element)
    {
        element = null;
        if (reader.Remaining == 0)
        {
            return false;
        }

        byte type = reader.Rest[0];
        switch (type)
        {
            case StreamFormat.Start or StreamFormat.Full:
                return As(SectionHeaders.TryReadStart(ref reader, out var section), section, out element);
            case StreamFormat.Part or StreamFormat.End:
                return As(SectionHeaders.TryReadPart(ref reader, out var part), part, out element);
            case StreamFormat.Footer:
                return As(SectionHeaders.TryReadFooter(ref reader, out var footer), footer, out element);
            case StreamFormat.Description:
                return As(TryReadDescription(ref reader, out var description), description, out element);
            case StreamFormat.Configuration:
                return As(ConfigurationCodec.TryRead(ref reader, out var configuration), configuration, out element);
            case StreamFormat.Command:
                return As(CommandCodec.TryRead(ref reader, out var command), command, out element);
            case StreamFormat.Eof:
                element = new StreamEnd(reader.Offset);
                reader.TryReadByte(out _);
                return true;
            default:
                throw WalkContext.Failure(StreamError.UnknownElement, null, reader.Offset, $"0x{type:x2} is not a section type");
        }
    }

    /// <summary>Reads the header of the description, whose JSON follows.</summary>
    internal static bool TryReadDescription(ref WireReader reader, [NotNullWhen(true)] out DescriptionHeader? description)
    {
        var r = reader;
        description = null;
        if (!r.TryReadByte(out _) || !r.TryReadUInt32(out uint length))
        {
            return false;
        }

        if (length > StreamFormat.MaxDescription)
        {
            throw WalkContext.Failure(StreamError.InvalidDescription, null, reader.Offset,
                $"The description announces {length:N0} bytes; more than {StreamFormat.MaxDescription:N0} are not read");
        }

        description = new DescriptionHeader((int)length, reader.Offset);
        reader = r;
        return true;
    }

    private static bool As(bool read, StreamElement? value, out StreamElement? element)
    {
        element = value;
        return read;
    }
}
