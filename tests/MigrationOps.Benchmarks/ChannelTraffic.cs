using System.Net;
using System.Net.Sockets;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Benchmarks;

/// <summary>
/// The same traffic for the receiver and for a bare drain loop: 1 MiB packets of device state over channels, a thread
/// each, indexes taken from one counter per device as QEMU's queue gives them out.
/// </summary>
internal sealed class ChannelTraffic(int channels, int devices, long bytes)
{
    internal const int PacketData = 1024 * 1024;

    private readonly int[] _next = new int[devices];
    private int _packet = -1;

    internal int Packets => (int)(bytes / PacketData);

    internal Thread[] Start(Endpoint endpoint)
    {
        // The main channel first, so that the devices are known.
        var main = Connect(endpoint);
        var threads = Enumerable.Range(0, channels).Select(id => Run(() => SendChannel(endpoint, (byte)id))).ToArray();
        return [.. threads, Run(() => SendMain(main, threads))];
    }

    // Blocking sockets: one that was ever used asynchronously wakes the platform's event loop at every change of its state.
    internal static Stream Connect(Endpoint endpoint)
    {
        bool unix = endpoint is Endpoint.Unix;
        var socket = new Socket(unix ? AddressFamily.Unix : AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(endpoint is Endpoint.Tcp tcp
            ? new IPEndPoint(IPAddress.Parse(tcp.Host), tcp.Port) : new UnixDomainSocketEndPoint(((Endpoint.Unix)endpoint).Path));
        return new NetworkStream(socket, ownsSocket: true);
    }

    private static Thread Run(Action action)
    {
        var thread = new Thread(() => action()) { IsBackground = true };
        thread.Start();
        return thread;
    }

    private void SendChannel(Endpoint endpoint, byte id)
    {
        using var stream = Connect(endpoint);
        byte[] buffer = new byte[DeviceStatePacket.Size + VfioPacketHeader.Size + PacketData];
        new ChannelInit(Guid.Empty, id).Write(buffer);
        stream.Write(buffer.AsSpan(0, ChannelInit.Size));
        string[] names = [.. Enumerable.Range(0, devices).Select(Name)];
        // Everything before the first packet: what is allocated later would count as the receiver's.
        byte[] config = ConfigState.Empty();
        byte[] configPacket = new byte[DeviceStatePacket.Size + VfioPacketHeader.Size + config.Length];
        int packet;
        while ((packet = Interlocked.Increment(ref _packet)) < Packets)
        {
            int device = packet % devices;
            DeviceStatePacket.Write(buffer, names[device], 0, VfioPacketHeader.Size + PacketData);
            VfioPacketHeader.For((uint)Interlocked.Increment(ref _next[device]) - 1, false).Write(buffer.AsSpan(DeviceStatePacket.Size));
            stream.Write(buffer);
        }

        if (id == 0)
        {
            SendConfigs(stream, names, config, configPacket);
        }
    }

    private void SendConfigs(Stream stream, string[] names, byte[] config, byte[] packet)
    {
        for (int device = 0; device < devices; device++)
        {
            int count = Packets / devices + (device < Packets % devices ? 1 : 0);
            DeviceStatePacket.Write(packet, names[device], 0, VfioPacketHeader.Size + config.Length);
            VfioPacketHeader.For((uint)count, true).Write(packet.AsSpan(DeviceStatePacket.Size));
            config.CopyTo(packet, DeviceStatePacket.Size + VfioPacketHeader.Size);
            stream.Write(packet);
        }
    }

    private void SendMain(Stream main, Thread[] threads)
    {
        using (main)
        {
            var writer = new MainStreamWriter(main);
            writer.Begin([]);
            using var setup = new MemoryStream();
            new MarkerWriter(setup).WriteSetup();
            for (int device = 0; device < devices; device++)
            {
                writer.Section(SectionKind.Start, new StreamSection(SectionKind.Start, (uint)device, Name(device), 0, 1, 0, 0), setup.ToArray());
            }

            writer.StartSwitchover();
            Array.ForEach(threads, t => t.Join());
            writer.End();
        }
    }

    private static string Name(int device) => $"0000:{device:x2}:00.0/vfio";
}
