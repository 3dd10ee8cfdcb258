using System.Buffers.Binary;
using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>The fixed part of a packet of device state; its payload follows.</summary>
public readonly ref struct DeviceStatePacket
{
    /// <summary>Length of the fixed part in bytes, header included.</summary>
    public const int Size = PacketHeader.Size + IdStrSize + 8;

    /// <summary>Bytes of the idstr field, its NUL included.</summary>
    public const int IdStrSize = 256;

    private DeviceStatePacket(PacketHeader header, ReadOnlySpan<byte> idStr, uint instanceId, int payloadSize)
    {
        Header = header;
        IdStrBytes = idStr;
        InstanceId = instanceId;
        PayloadSize = payloadSize;
    }

    /// <summary>The flags.</summary>
    public PacketHeader Header { get; }

    /// <summary>Name of the device's section, without its NUL. It points into the parsed bytes.</summary>
    public ReadOnlySpan<byte> IdStrBytes { get; }

    /// <summary>Name of the device's section.</summary>
    public string IdStr => Encoding.UTF8.GetString(IdStrBytes);

    /// <summary>Number among the sections of that name.</summary>
    public uint InstanceId { get; }

    /// <summary>Bytes of payload that follow.</summary>
    public int PayloadSize { get; }

    /// <summary>Reads and checks the fixed part.</summary>
    /// <param name="data">Bytes from the packet's start, header included.</param>
    /// <param name="packet">The packet.</param>
    /// <param name="limit">The largest payload.</param>
    /// <param name="channel">What errors call the channel.</param>
    /// <param name="offset">Where the packet starts in the channel.</param>
    /// <returns>Bytes used; 0 if more are needed.</returns>
    /// <exception cref="MultifdException"><see cref="MultifdError.InvalidDeviceFlags"/>, <see cref="MultifdError.InvalidIdStr"/>,
    /// <see cref="MultifdError.EmptyDevicePacket"/>, <see cref="MultifdError.PacketTooLarge"/>.</exception>
    public static int Parse(
        ReadOnlySpan<byte> data, out DeviceStatePacket packet, int limit, string channel, long offset)
    {
        packet = default;
        if (data.Length < Size)
        {
            return 0;
        }

        PacketHeader.Parse(data, out var header, channel, offset);
        if (header.IsSync || header.Compression != 0)
        {
            throw MultifdException.At(MultifdError.InvalidDeviceFlags, channel, offset,
                $"a device-state packet cannot have the flags {header.Flags}");
        }

        var reader = WireReader.BigEndian(data[PacketHeader.Size..]);
        var idStr = reader.ReadBytes(IdStrSize, "idstr");
        int end = idStr.IndexOf((byte)0);
        if (end <= 0)
        {
            throw MultifdException.At(MultifdError.InvalidIdStr, channel, offset + PacketHeader.Size,
                end == 0 ? "the device's idstr is empty" : "the device's idstr has no NUL within its 256 bytes");
        }

        uint instance = reader.ReadUInt32("instance_id");
        uint size = reader.ReadUInt32("next_packet_size");
        string Device(ReadOnlySpan<byte> name) => $"'{Encoding.UTF8.GetString(name)}' instance {instance}";
        if (size == 0)
        {
            throw MultifdException.At(MultifdError.EmptyDevicePacket, channel, offset,
                $"a packet of device {Device(idStr[..end])} has no payload");
        }

        if (size > limit)
        {
            throw MultifdException.At(MultifdError.PacketTooLarge, channel, offset,
                $"a packet of device {Device(idStr[..end])} announces {size:N0} bytes, the limit is {limit:N0}");
        }

        packet = new DeviceStatePacket(header, idStr[..end], instance, (int)size);
        return Size;
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
