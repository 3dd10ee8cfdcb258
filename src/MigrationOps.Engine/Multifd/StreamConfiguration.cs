using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>The configuration at the head of a main stream: the machine type, and the subsections behind it.</summary>
internal sealed class StreamConfiguration
{
    private const byte SubsectionType = 5;
    private const int LongestMachine = 4096;
    private const int LongestName = 255;

    /// <summary>The machine type of the source.</summary>
    internal string? Machine { get; private set; }

    /// <summary>Size of a target page in bytes, if the stream says it.</summary>
    internal int? PageSize { get; private set; }

    /// <summary>True if the source leaves out shared memory, and says of every block where it lies.</summary>
    internal bool IgnoresShared { get; private set; }

    /// <summary>Reads the machine type.</summary>
    /// <param name="data">Bytes behind the type byte of the configuration section.</param>
    /// <param name="offset">Where they lie in the stream.</param>
    /// <returns>Bytes used; 0 if more are needed.</returns>
    internal int ParseMachine(ReadOnlySpan<byte> data, long offset)
    {
        var reader = WireReader.BigEndian(data);
        if (!reader.TryReadUInt32(out uint length) || !TryReadText(ref reader, length, LongestMachine, offset, out string machine))
        {
            return 0;
        }

        Machine = machine;
        return reader.Position;
    }

    /// <summary>Reads a subsection.</summary>
    /// <param name="data">Bytes from its start.</param>
    /// <param name="offset">Where they lie in the stream.</param>
    /// <param name="ended">True if no subsection follows any more.</param>
    /// <returns>Bytes used; 0 if more are needed, or at the end.</returns>
    internal int ParseSubsection(ReadOnlySpan<byte> data, long offset, out bool ended)
    {
        ended = !data.IsEmpty && data[0] != SubsectionType;
        if (data.IsEmpty || ended)
        {
            return 0;
        }

        var reader = WireReader.BigEndian(data[1..]);
        if (!TryReadName(ref reader, offset, out string name) || !reader.TryReadUInt32(out _))
        {
            return 0;
        }

        bool read = name switch
        {
            "configuration/target-page-bits" => TryReadPageBits(ref reader, offset),
            "configuration/capabilities" => TryReadCapabilities(ref reader, offset),
            "configuration/uuid" => reader.TryReadBytes(16, out _),
            _ => throw Invalid(offset, $"the configuration has the unknown subsection '{name}'"),
        };
        return read ? 1 + reader.Position : 0;
    }

    /// <summary>Reads a name with a length byte before it.</summary>
    internal static bool TryReadName(ref WireReader reader, long offset, out string name)
    {
        name = "";
        return reader.TryReadByte(out byte length) && TryReadText(ref reader, length, LongestName, offset, out name);
    }

    private bool TryReadPageBits(ref WireReader reader, long offset)
    {
        if (!reader.TryReadUInt32(out uint bits))
        {
            return false;
        }

        PageSize = bits < 31 && RamPacket.IsPageSize(1L << (int)bits)
            ? 1 << (int)bits
            : throw Invalid(offset, $"a page of 2^{bits} bytes cannot be");
        return true;
    }

    private bool TryReadCapabilities(ref WireReader reader, long offset)
    {
        if (!reader.TryReadUInt32(out uint count))
        {
            return false;
        }

        for (uint i = 0; i < count; i++)
        {
            if (!TryReadName(ref reader, offset, out string name))
            {
                return false;
            }

            IgnoresShared |= name == "x-ignore-shared";
        }

        return true;
    }

    private static bool TryReadText(ref WireReader reader, uint length, int limit, long offset, out string text)
    {
        text = "";
        if (length > limit)
        {
            throw Invalid(offset, $"a name of {length:N0} bytes is beyond the limit of {limit}");
        }

        if (!reader.TryReadBytes((int)length, out var bytes))
        {
            return false;
        }

        text = Encoding.UTF8.GetString(bytes);
        return true;
    }

    private static MultifdException Invalid(long offset, string what)
        => MultifdException.At(MultifdError.MainStreamInvalid, "main channel", offset, what);
}
