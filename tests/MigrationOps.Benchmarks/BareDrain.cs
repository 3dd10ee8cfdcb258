using System.Net;
using System.Net.Sockets;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Benchmarks;

/// <summary>
/// What a receiver is measured against: a thread per connection that does nothing but read, with the platform's own blocking
/// sockets and nothing of the engine's. The sender is the same.
/// </summary>
internal static class BareDrain
{
    internal static TimeSpan Run(string uri, int channels, long bytes) => BenchmarkReport.Time(() =>
    {
        var endpoint = Endpoint.Parse(uri);
        using var listener = Listen(ref endpoint);
        var traffic = new ChannelTraffic(channels, 1, bytes).Start(endpoint);
        var threads = new Thread[channels + 1];
        for (int i = 0; i < threads.Length; i++)
        {
            var connection = listener.Accept();
            threads[i] = new Thread(() => Drain(connection));
            threads[i].Start();
        }

        Array.ForEach(threads, t => t.Join());
        Array.ForEach(traffic, t => t.Join());
        if (endpoint is Endpoint.Unix unix)
        {
            File.Delete(unix.Path);
        }
    });

    private static void Drain(Socket connection)
    {
        using (connection)
        {
            byte[] buffer = new byte[ChannelTraffic.PacketData];
            while (connection.Receive(buffer) > 0)
            {
                // The bytes are dropped.
            }
        }
    }

    private static Socket Listen(ref Endpoint endpoint)
    {
        if (endpoint is Endpoint.Unix unix)
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            socket.Bind(new UnixDomainSocketEndPoint(unix.Path));
            socket.Listen(128);
            return socket;
        }

        var tcp = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        tcp.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        tcp.Listen(128);
        endpoint = new Endpoint.Tcp("127.0.0.1", ((IPEndPoint)tcp.LocalEndPoint!).Port);
        return tcp;
    }
}
