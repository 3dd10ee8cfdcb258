using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace MigrationOps.Module.Tests;

/// <summary>
/// A slow network on this machine: takes one connection and passes it on to a target, no faster than so many bytes per second from
/// the source. Its receive buffer is small, so that the source feels the network and not the kernel's memory; of a UNIX socket
/// the sender's is small too, which is megabytes over TCP on loopback.
/// </summary>
internal sealed class ShapedRelay : IDisposable
{
    private const int Window = 64 << 10;
    private static readonly TimeSpan Moment = TimeSpan.FromMilliseconds(10);

    private readonly Socket _listener;
    private readonly long _bytesPerSecond;
    private readonly Func<Socket> _connect;
    private readonly Thread _thread;
    private Exception? _failure;

    internal ShapedRelay(long bytesPerSecond, Func<Socket> connect, string? path = null)
    {
        (_bytesPerSecond, _connect) = (bytesPerSecond, connect);
        _listener = path is null ? new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) : new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        // An accepted socket has the listener's buffer, and only one set before the listening keeps the window small.
        _listener.ReceiveBufferSize = Window;
        _listener.Bind(path is null ? new IPEndPoint(IPAddress.Loopback, 0) : new UnixDomainSocketEndPoint(path));
        _listener.Listen(1);
        _thread = new Thread(Relay) { IsBackground = true, Name = "shaped relay" };
        _thread.Start();
    }

    internal string Uri => _listener.LocalEndPoint is IPEndPoint address ? $"tcp:127.0.0.1:{address.Port}" : $"unix:{_listener.LocalEndPoint}";

    /// <summary>Bytes that the source got through.</summary>
    internal long Passed { get; private set; }

    public void Dispose()
    {
        bool ended = _thread.Join(TimeSpan.FromSeconds(30));
        _listener.Dispose();
        Assert.True(ended, "The relay has not ended.");
        Assert.True(_failure is null, _failure?.ToString());
    }

    private void Relay()
    {
        try
        {
            using var source = _listener.Accept();
            using var target = _connect();
            var answers = Task.Factory.StartNew(() => Pass(target, source, _ => { }), TaskCreationOptions.LongRunning);
            var clock = Stopwatch.StartNew();
            var free = TimeSpan.Zero;
            Pass(source, target, count =>
            {
                Passed += count;
                // What was not sent in time is not caught up, but for a moment: a network has no memory of when it was idle. A sleep below a
                // millisecond is none, and gives the processor away.
                var latest = clock.Elapsed - Moment;
                free = (free > latest ? free : latest) + TimeSpan.FromSeconds((double)count / _bytesPerSecond);
                var wait = free - clock.Elapsed;
                if (wait.TotalMilliseconds >= 1)
                {
                    Thread.Sleep(wait);
                }
            });
            answers.Wait();
        }
        catch (Exception e)
        {
            _failure = e;
        }
    }

    private static void Pass(Socket from, Socket to, Action<int> passed)
    {
        byte[] buffer = new byte[Window / 4];
        try
        {
            int count;
            while ((count = from.Receive(buffer)) > 0)
            {
                to.Send(buffer, 0, count, SocketFlags.None);
                passed(count);
            }

            to.Shutdown(SocketShutdown.Send);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // One side has ended its connection; the other one sees it close. The other direction may have closed both.
            to.Close();
        }
    }
}
