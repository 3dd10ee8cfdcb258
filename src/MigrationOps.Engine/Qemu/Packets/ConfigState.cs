using System.Buffers.Binary;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// A device's config state as the config packet has it: <see cref="VfioMarker.ConfigState"/>, the saved PCI configuration
/// space, <see cref="VfioMarker.EndOfState"/>.
/// </summary>
/// <param name="Length">Length of the whole in bytes, both markers included.</param>
/// <param name="Trailing">Bytes behind the end mark, which QEMU does not look at.</param>
internal readonly record struct ConfigState(int Length, int Trailing)
{
    /// <summary>Bytes of the two markers.</summary>
    public const int MarkerBytes = 16;

    /// <summary>The largest config state that is taken, in bytes; MSI-X tables of the largest kind need 33 KiB.</summary>
    public const int Limit = 4 * 1024 * 1024;

    /// <summary>True if there is nothing between the markers.</summary>
    public bool IsEmpty => Length == MarkerBytes;

    /// <summary>A config state without content, for a device that no VMM gave a configuration space.</summary>
    public static byte[] Empty()
    {
        byte[] body = new byte[MarkerBytes];
        VfioMarkerCodec.Write(body, VfioMarker.ConfigState);
        VfioMarkerCodec.Write(body.AsSpan(VfioMarkerCodec.Size), VfioMarker.EndOfState);
        return body;
    }

    /// <summary>Looks at the length before memory is taken for it.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidConfig"/>.</exception>
    internal static void CheckLength(long length, in PacketPlace place, uint index)
    {
        if (length > Limit)
        {
            throw place.Fail(StreamError.InvalidConfig, $"a config state of {length:N0} bytes is beyond the limit of {Limit:N0}", index);
        }
    }

    /// <summary>Reads a config state that is there whole.</summary>
    /// <param name="body">The packet's data.</param>
    /// <param name="place">Names device, channel and offset in errors.</param>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidConfig"/>, <see cref="StreamError.TruncatedConfig"/>.</exception>
    internal static ConfigState Parse(ReadOnlySpan<byte> body, in PacketPlace place)
    {
        if (body.Length < 8)
        {
            throw place.Fail(StreamError.TruncatedConfig, $"the config state has {body.Length} bytes");
        }

        ulong first = BinaryPrimitives.ReadUInt64BigEndian(body);
        if (first != (ulong)VfioMarker.ConfigState)
        {
            throw place.Fail(StreamError.InvalidConfig,
                $"expected a config state (0x{(ulong)VfioMarker.ConfigState:x}), found 0x{first:x}");
        }

        // The configuration space is of no fixed length; the end mark cannot be mistaken for a part of it.
        Span<byte> mark = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(mark, (ulong)VfioMarker.EndOfState);
        int end = body[8..].LastIndexOf(mark);
        if (end < 0)
        {
            throw place.Fail(StreamError.TruncatedConfig, $"the config state of {body.Length:N0} bytes has no end mark");
        }

        int length = 8 + end + 8;
        return new ConfigState(length, body.Length - length);
    }
}
