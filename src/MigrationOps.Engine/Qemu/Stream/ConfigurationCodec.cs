using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Reads the CONFIGURATION section, whose layout is fixed in every QEMU that writes one.</summary>
internal static class ConfigurationCodec
{
    /// <summary>Reads it from its type byte on; null, with nothing consumed, while bytes are lacking.</summary>
    internal static StreamConfiguration? TryRead(ref WireReader reader)
    {
        var r = reader;
        if (!r.TryReadByte(out _) || !r.TryReadUInt32(out uint length))
        {
            return null;
        }

        if (length > StreamFormat.MaxMachineType)
        {
            throw WalkContext.Failure(StreamError.UnknownElement, null, reader.Offset,
                $"The configuration announces a machine type of {length:N0} bytes");
        }

        if (!r.TryReadBytes((int)length, out var name))
        {
            return null;
        }

        if (!SectionHeaders.IsIdStr(name))
        {
            throw WalkContext.Failure(StreamError.UnknownElement, null, reader.Offset, "The machine type in the configuration is not readable");
        }

        var configuration = new StreamConfiguration(Encoding.UTF8.GetString(name), null, [], null, reader.Offset);
        while (true)
        {
            // One byte past the end tells whether a subsection follows: the type of the next section is never 5.
            if (r.Remaining == 0)
            {
                return null;
            }

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
    }

    private static bool TryReadSubsection(ref WireReader r, ref StreamConfiguration configuration)
    {
        long offset = r.Offset;
        if (!r.TryReadByte(out _) || !r.TryReadByte(out byte length) || !r.TryReadBytes(length, out var name)
            || !r.TryReadUInt32(out uint version))
        {
            return false;
        }

        if (version != 1)
        {
            throw WalkContext.Failure(StreamError.UnsupportedVersion, null, offset, $"The configuration has a subsection of version {version}");
        }

        if (name.SequenceEqual("configuration/target-page-bits"u8))
        {
            if (!r.TryReadUInt32(out uint bits))
            {
                return false;
            }

            configuration = bits is >= 10 and <= 16
                ? configuration with { PageBits = (int)bits }
                : throw WalkContext.Failure(StreamError.InvalidRam, null, offset, $"Pages of 2^{bits} bytes do not exist");
            return true;
        }

        if (name.SequenceEqual("configuration/uuid"u8))
        {
            bool whole = r.TryReadBytes(16, out var uuid);
            configuration = whole ? configuration with { Uuid = new Guid(uuid, bigEndian: true) } : configuration;
            return whole;
        }

        if (name.SequenceEqual("configuration/capabilities"u8))
        {
            return TryReadCapabilities(ref r, ref configuration, offset);
        }

        throw WalkContext.Failure(StreamError.UnknownElement, null, offset,
            $"The configuration has an unknown subsection '{Encoding.UTF8.GetString(name)}'");
    }

    private static bool TryReadCapabilities(ref WireReader r, ref StreamConfiguration configuration, long offset)
    {
        if (!r.TryReadUInt32(out uint count))
        {
            return false;
        }

        if (count > StreamFormat.MaxCapabilities)
        {
            throw WalkContext.Failure(StreamError.UnknownElement, null, offset, $"The configuration announces {count:N0} capabilities");
        }

        var names = new List<string>();
        for (uint i = 0; i < count; i++)
        {
            if (!r.TryReadByte(out byte length) || !r.TryReadBytes(length, out var name))
            {
                return false;
            }

            names.Add(Encoding.UTF8.GetString(name));
        }

        configuration = configuration with { Capabilities = names };
        return true;
    }
}
