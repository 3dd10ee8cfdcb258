using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Reads the framing of a stream without I/O: bytes in, an element or null out. Null means that more bytes are needed; nothing is
/// then consumed.
/// </summary>
internal static class ElementReader
{
    private static readonly UTF8Encoding Utf8 = new(false, throwOnInvalidBytes: true);

    /// <summary>Reads magic and version.</summary>
    internal static StreamElement.Header? TryReadHeader(ref WireReader reader)
    {
        var r = reader;
        if (!r.TryReadUInt32(out uint magic))
        {
            return null;
        }

        if (magic != StreamFormat.Magic)
        {
            throw Failure(SaveVmError.NotAStream, reader.Offset,
                $"This is no migration stream: it starts with 0x{magic:x8}, not with 'QEVM' (0x{StreamFormat.Magic:x8})");
        }

        long offset = r.Offset;
        if (!r.TryReadUInt32(out uint version))
        {
            return null;
        }

        if (version != StreamFormat.Version)
        {
            throw Failure(SaveVmError.UnsupportedVersion, offset, version == StreamFormat.ObsoleteVersion
                ? "This is a version 2 stream, which QEMU gave up long ago"
                : $"The stream has version {version}; version {StreamFormat.Version} is known");
        }

        reader = r;
        return new StreamElement.Header();
    }

    /// <summary>Reads the element that starts here, outside any section's body.</summary>
    internal static StreamElement? TryRead(ref WireReader reader)
    {
        if (reader.Remaining == 0)
        {
            return null;
        }

        byte type = reader.Rest[0];
        switch (type)
        {
            case (byte)SectionKind.Start or (byte)SectionKind.Full:
                return TryReadSectionStart(ref reader);
            case (byte)SectionKind.Part or (byte)SectionKind.End:
                return TryReadNumbered(ref reader, id => new StreamElement.SectionPart((SectionKind)type, id));
            case StreamFormat.Footer:
                return TryReadNumbered(ref reader, id => new StreamElement.Footer(id));
            case StreamFormat.Description:
                return TryReadDescription(ref reader);
            case StreamFormat.Configuration:
                return TryReadConfiguration(ref reader);
            case StreamFormat.Command:
                return TryReadCommand(ref reader);
            case StreamFormat.Eof:
                reader.ReadByte("the end mark");
                return new StreamElement.Eof();
            default:
                throw Failure(SaveVmError.UnknownElement, reader.Offset, $"0x{type:x2} is no type of section");
        }
    }

    internal static SaveVmException Failure(SaveVmError reason, long offset, string what, string? section = null, Exception? inner = null)
        => new(reason, $"{what}, at byte {offset:N0} of the stream.", inner) { ByteOffset = offset, Section = section };

    private static StreamElement? TryReadNumbered(ref WireReader reader, Func<uint, StreamElement> make)
    {
        var r = reader;
        if (!r.TryReadByte(out _) || !r.TryReadUInt32(out uint id))
        {
            return null;
        }

        reader = r;
        return make(id);
    }

    private static StreamElement.SectionStart? TryReadSectionStart(ref WireReader reader)
    {
        var r = reader;
        if (!r.TryReadByte(out byte type) || !r.TryReadUInt32(out uint id) || !r.TryReadByte(out byte length)
            || !r.TryReadBytes(length, out var name) || !r.TryReadUInt32(out uint instance) || !r.TryReadUInt32(out uint version))
        {
            return null;
        }

        string idStr = Text(name, reader.Offset, $"The name of section {id}");
        reader = r;
        return new StreamElement.SectionStart((SectionKind)type, id, idStr, instance, version);
    }

    private static StreamElement.Description? TryReadDescription(ref WireReader reader)
    {
        var r = reader;
        if (!r.TryReadByte(out _) || !r.TryReadUInt32(out uint length))
        {
            return null;
        }

        if (length > StreamFormat.MaxDescription)
        {
            throw Failure(SaveVmError.UnknownElement, reader.Offset,
                $"The description announces {length:N0} bytes, more than the {StreamFormat.MaxDescription:N0} that are read");
        }

        reader = r;
        return new StreamElement.Description((int)length);
    }

    private static StreamElement.Command? TryReadCommand(ref WireReader reader)
    {
        var r = reader;
        if (!r.TryReadByte(out _) || !r.TryReadUInt16(out ushort number) || !r.TryReadUInt16(out ushort length))
        {
            return null;
        }

        var command = (StreamCommandId)number;
        int? expected = command switch
        {
            StreamCommandId.OpenReturnPath or StreamCommandId.SwitchoverStart or StreamCommandId.PostcopyListen or StreamCommandId.PostcopyRun
                or StreamCommandId.EnableColo or StreamCommandId.PostcopyResume => 0,
            StreamCommandId.Ping or StreamCommandId.Packaged => 4,
            StreamCommandId.PostcopyAdvise or StreamCommandId.PostcopyRamDiscard or StreamCommandId.ReceivedBitmap => null,
            _ => throw Failure(SaveVmError.InvalidCommand, reader.Offset, $"Command {number} is unknown"),
        };
        if (expected is { } bytes && length != bytes)
        {
            throw Failure(SaveVmError.InvalidCommand, reader.Offset, $"Command {command} carries {length} bytes where {bytes} belong");
        }

        if (!r.TryReadBytes(length, out var data))
        {
            return null;
        }

        reader = r;
        return new StreamElement.Command(command, data.ToArray());
    }

    private static StreamElement.Configuration? TryReadConfiguration(ref WireReader reader)
    {
        var r = reader;
        if (!r.TryReadByte(out _) || !r.TryReadUInt32(out uint length))
        {
            return null;
        }

        if (length is 0 or > StreamFormat.MaxMachineType)
        {
            throw Failure(SaveVmError.ConfigurationMismatch, reader.Offset, $"The configuration announces a machine type of {length:N0} bytes");
        }

        if (!r.TryReadBytes((int)length, out var name))
        {
            return null;
        }

        var configuration = new StreamElement.Configuration(Text(name, reader.Offset, "The machine type"), null, [], null);
        while (r.Remaining > 0)
        {
            // The byte behind the configuration tells whether a subsection follows; no section has that type.
            if (r.Rest[0] != StreamFormat.Subsection)
            {
                reader = r;
                return configuration;
            }

            if (!TryReadSubsection(ref r, ref configuration))
            {
                return null;
            }
        }

        return null;
    }

    private static bool TryReadSubsection(ref WireReader r, ref StreamElement.Configuration configuration)
    {
        long offset = r.Offset;
        if (!r.TryReadByte(out _) || !r.TryReadByte(out byte length) || !r.TryReadBytes(length, out var name)
            || !r.TryReadUInt32(out uint version))
        {
            return false;
        }

        string subsection = Text(name, offset, "The name of a subsection of the configuration");
        switch (subsection, version)
        {
            case ("configuration/target-page-bits", 1):
                if (!r.TryReadUInt32(out uint bits))
                {
                    return false;
                }

                configuration = configuration with { PageBits = (int)Math.Min(bits, int.MaxValue) };
                return true;
            case ("configuration/uuid", 1):
                if (!r.TryReadBytes(16, out var uuid))
                {
                    return false;
                }

                configuration = configuration with { Uuid = new Guid(uuid, bigEndian: true) };
                return true;
            case ("configuration/capabilities", 1):
                return TryReadCapabilities(ref r, ref configuration, offset);
            default:
                throw Failure(SaveVmError.ConfigurationMismatch, offset, $"The configuration has the unknown subsection '{subsection}' of version {version}");
        }
    }

    private static bool TryReadCapabilities(ref WireReader r, ref StreamElement.Configuration configuration, long offset)
    {
        if (!r.TryReadUInt32(out uint count))
        {
            return false;
        }

        if (count > StreamFormat.MaxCapabilities)
        {
            throw Failure(SaveVmError.ConfigurationMismatch, offset, $"The configuration announces {count:N0} capabilities");
        }

        var names = new List<string>();
        for (uint i = 0; i < count; i++)
        {
            if (!r.TryReadByte(out byte length) || !r.TryReadBytes(length, out var name))
            {
                return false;
            }

            names.Add(Text(name, offset, "The name of a capability"));
        }

        configuration = configuration with { Capabilities = names };
        return true;
    }

    private static string Text(ReadOnlySpan<byte> bytes, long offset, string what)
    {
        try
        {
            string text = Utf8.GetString(bytes);
            return text.Length > 0 && !text.Any(char.IsControl) ? text
                : throw Failure(SaveVmError.InvalidName, offset, $"{what} is {(text.Length == 0 ? "empty" : "not readable")}");
        }
        catch (DecoderFallbackException e)
        {
            throw Failure(SaveVmError.InvalidName, offset, $"{what} is not readable", inner: e);
        }
    }
}
