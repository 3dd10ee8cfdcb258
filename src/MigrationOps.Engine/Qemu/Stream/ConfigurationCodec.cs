using System.Diagnostics.CodeAnalysis;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Reads the CONFIGURATION section, whose layout is fixed in every QEMU that writes one.</summary>
internal static class ConfigurationCodec
{
    /// <summary>Reads it from its type byte on. It needs the byte behind it, which tells whether a subsection follows.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidConfiguration"/>, <see cref="StreamError.InvalidName"/>.</exception>
    internal static bool TryRead(ref WireReader reader, [NotNullWhen(true)] out StreamConfiguration? configuration)
    {
        var r = reader;
        configuration = null;
        if (!r.TryReadByte(out _) || !r.TryReadUInt32(out uint length))
        {
            return false;
        }

        if (length > StreamFormat.MaxMachineType)
        {
            throw WalkContext.Failure(StreamError.InvalidConfiguration, null, reader.Offset,
                $"The configuration announces a machine type of {length:N0} bytes, {StreamFormat.MaxMachineType:N0} are read at most");
        }

        if (!r.TryReadBytes((int)length, out var name))
        {
            return false;
        }

        var read = new StreamConfiguration(length == 0 ? "" : StreamText.Read(name, reader.Offset, "The machine type"), null, [], null, reader.Offset);
        while (r.Remaining > 0)
        {
            // The type of the next section is never that of a subsection.
            if (r.Rest[0] != StreamFormat.Subsection)
            {
                reader = r;
                configuration = read;
                return true;
            }

            if (!TryReadSubsection(ref r, ref read))
            {
                return false;
            }
        }

        return false;
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
            throw WalkContext.Failure(StreamError.UnsupportedVersion, null, offset,
                $"Expected a subsection of version 1 in the configuration, found version {version}");
        }

        if (name.SequenceEqual("configuration/target-page-bits"u8))
        {
            if (!r.TryReadUInt32(out uint bits))
            {
                return false;
            }

            configuration = bits is >= StreamFormat.MinPageBits and <= StreamFormat.MaxPageBits
                ? configuration with { PageBits = (int)bits }
                : throw WalkContext.Failure(StreamError.InvalidConfiguration, null, offset,
                    $"Page size 2^{bits} is not supported (2^{StreamFormat.MinPageBits} to 2^{StreamFormat.MaxPageBits})");
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

        throw WalkContext.Failure(StreamError.InvalidConfiguration, null, offset,
            $"The configuration has the unknown subsection '{StreamText.Read(name, offset, "The name of a subsection")}'");
    }

    private static bool TryReadCapabilities(ref WireReader r, ref StreamConfiguration configuration, long offset)
    {
        if (!r.TryReadUInt32(out uint count))
        {
            return false;
        }

        if (count > StreamFormat.MaxCapabilities)
        {
            throw WalkContext.Failure(StreamError.InvalidConfiguration, null, offset,
                $"The configuration announces {count:N0} capabilities; {StreamFormat.MaxCapabilities} are read at most");
        }

        var names = new List<string>();
        for (uint i = 0; i < count; i++)
        {
            if (!r.TryReadByte(out byte length) || !r.TryReadBytes(length, out var name))
            {
                return false;
            }

            names.Add(StreamText.Read(name, offset, "The name of a capability"));
        }

        configuration = configuration with { Capabilities = names };
        return true;
    }
}
