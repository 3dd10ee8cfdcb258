using System.Buffers.Binary;
using System.Net.Sockets;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vfio;

/// <summary>What a source writes, part by part, for a test that decides what comes when.</summary>
internal static class HandMade
{
    /// <summary>A connection whose two directions end one by one. Its connecting waits while the listener's queue is full.</summary>
    internal static NetworkStream Connect(Endpoint endpoint)
    {
        int patience = (int)Waiting.Patience.TotalMilliseconds;
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified)
        {
            ReceiveTimeout = patience,
            SendTimeout = patience,
        };
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(((Endpoint.Unix)endpoint).Path));
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>The message with which a channel starts.</summary>
    internal static byte[] Init(int id)
    {
        byte[] init = new byte[ChannelInit.Size];
        new ChannelInit(Guid.Empty, (byte)id).Write(init);
        return init;
    }

    /// <summary>One packet of a device, with additional flags.</summary>
    internal static byte[] Packet(
        StreamSection device, int index, ReadOnlySpan<byte> data, bool isConfig = false, uint packetFlags = 0, uint vfioFlags = 0)
    {
        byte[] packet = new byte[DeviceStatePacket.Size + VfioPacketHeader.Size + data.Length];
        DeviceStatePacket.Write(packet, device.IdStr, device.InstanceId, VfioPacketHeader.Size + data.Length);
        new PacketHeader(PacketFlags.DeviceState | (PacketFlags)packetFlags).Write(packet);
        var header = VfioPacketHeader.For((uint)index, isConfig);
        (header with { Flags = header.Flags | vfioFlags }).Write(packet.AsSpan(DeviceStatePacket.Size));
        data.CopyTo(packet.AsSpan(DeviceStatePacket.Size + VfioPacketHeader.Size));
        return packet;
    }

    /// <summary>A config state around so many bytes.</summary>
    internal static byte[] Config(int length) => Body(w =>
    {
        w.Write(VfioMarker.ConfigState);
        w.WriteConfig(new byte[length]);
        w.Write(VfioMarker.EndOfState);
    });

    /// <summary>The body of a section with a block of data.</summary>
    internal static byte[] Data(byte[] data) => Body(w =>
    {
        w.WriteData(data);
        w.Write(VfioMarker.EndOfState);
    });

    /// <summary>The body of a device's first section.</summary>
    internal static byte[] Setup() => Body(w => w.WriteSetup());

    /// <summary>Asks for a sign of life; the answer says that everything before it in the main stream has been read.</summary>
    internal static byte[] Ping(uint value)
    {
        byte[] command = [8, 0, 2, 0, 4, 0, 0, 0, 0];
        BinaryPrimitives.WriteUInt32BigEndian(command.AsSpan(5), value);
        return command;
    }

    private static byte[] Body(Action<MarkerWriter> write)
    {
        using var body = new MemoryStream();
        write(new MarkerWriter(body));
        return body.ToArray();
    }
}
