using System.Buffers.Binary;
using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>The fixed part of a packet of device state; its payload follows.</summary>
internal readonly ref struct DeviceStatePacket
{
    /// <summary>Length of the fixed part in bytes, header included.</summary>
    public const int Size = PacketHeader.Size + IdStrSize + 8;

    /// <summary>Bytes of the idstr field, its NUL included.</summary>
    public const int IdStrSize = 256;

    private DeviceStatePacket(PacketHeader header, long offset, ReadOnlySpan<byte> idStr, uint instanceId, int payloadSize)
    {
        Offset = offset;
        Header = header;
        IdStrBytes = idStr;
        InstanceId = instanceId;
        PayloadSize = payloadSize;
    }

    /// <summary>The flags.</summary>
    public PacketHeader Header { get; }

    /// <summary>Where the packet starts in the channel.</summary>
    public long Offset { get; }

    /// <summary>Name of the device's section, without its NUL. It points into the parsed bytes.</summary>
    public ReadOnlySpan<byte> IdStrBytes { get; }

    /// <summary>Name of the device's section.</summary>
    public string IdStr => Encoding.UTF8.GetString(IdStrBytes);

    /// <summary>Number among the sections of that name.</summary>
    public uint InstanceId { get; }

    /// <summary>Bytes of payload that follow.</summary>
    public int PayloadSize { get; }

    /// <summary>Reads and checks a packet, header included.</summary>
    internal static bool TryRead(scoped ref WireReader reader, long limit, out DeviceStatePacket packet)
    {
        var r = reader;
        packet = default;
        if (!PacketHeader.TryRead(ref r, out var header) || !TryRead(ref r, header, limit, out packet))
        {
            return false;
        }

        reader = r;
        return true;
    }

    /// <summary>Reads and checks what follows the header.</summary>
    /// <param name="reader">The bytes at hand.</param>
    /// <param name="header">The header, which has been read.</param>
    /// <param name="limit">The largest payload.</param>
    /// <param name="packet">The packet.</param>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidDeviceFlags"/>, <see cref="StreamError.InvalidIdStr"/>,
    /// <see cref="StreamError.EmptyDevicePacket"/>, <see cref="StreamError.PacketTooLarge"/>.</exception>
    internal static bool TryRead(scoped ref WireReader reader, PacketHeader header, long limit, out DeviceStatePacket packet)
    {
        var r = reader;
        packet = default;
        long offset = r.Offset - PacketHeader.Size;
        if (!r.TryReadBytes(IdStrSize, out var idStr) || !r.TryReadUInt32(out uint instance) || !r.TryReadUInt32(out uint size))
        {
            return false;
        }

        if (header.IsSync || header.Compression != 0)
        {
            throw StreamException.In(StreamError.InvalidDeviceFlags, r.Source, offset, $"a device-state packet has the flags {header.Flags}");
        }

        int end = idStr.IndexOf((byte)0);
        if (end < 0 || !StreamText.IsName(idStr[..end]))
        {
            throw StreamException.In(StreamError.InvalidIdStr, r.Source, offset + PacketHeader.Size, end < 0
                ? $"the device's idstr has no NUL within its {IdStrSize} bytes" : $"the device's idstr is {(end == 0 ? "empty" : "not readable")}");
        }

        if (size == 0 || size > Math.Min(limit, int.MaxValue))
        {
            string device = $"'{Encoding.UTF8.GetString(idStr[..end])}' instance {instance}";
            throw size == 0
                ? StreamException.In(StreamError.EmptyDevicePacket, r.Source, offset, $"a packet of device {device} has no payload")
                : StreamException.In(StreamError.PacketTooLarge, r.Source, offset, $"a packet of device {device} announces {size:N0} bytes, the limit is {limit:N0}");
        }

        packet = new DeviceStatePacket(header, offset, idStr[..end], instance, (int)size);
        reader = r;
        return true;
    }

    /// <summary>Writes the fixed part.</summary>
    /// <param name="destination">At least <see cref="Size"/> bytes.</param>
    /// <param name="idStr">Name of the device's section, at most 255 bytes in UTF-8.</param>
    /// <param name="instanceId">Number among the sections of that name.</param>
    /// <param name="payloadSize">Bytes of payload that follow.</param>
    public static void Write(Span<byte> destination, string idStr, uint instanceId, int payloadSize)
    {
        destination[..Size].Clear();
        new PacketHeader(PacketFlags.DeviceState).Write(destination);
        Encoding.UTF8.GetBytes(idStr, destination.Slice(PacketHeader.Size, IdStrSize - 1));
        BinaryPrimitives.WriteUInt32BigEndian(destination[(PacketHeader.Size + IdStrSize)..], instanceId);
        BinaryPrimitives.WriteInt32BigEndian(destination[(PacketHeader.Size + IdStrSize + 4)..], payloadSize);
    }
}
