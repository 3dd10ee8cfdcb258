using System.Net.Sockets;
using System.Text;

namespace MigrationOps.Interop.Tests.Moving;

/// <summary>A monitor's socket in front of a real one, which loses the answer of a command and then breaks or goes silent.</summary>
internal sealed class QmpProxy : IDisposable
{
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly List<Socket> _sockets = [];
    private readonly string _path;
    private readonly string _monitor;
    private readonly string _command;
    private readonly bool _reaches;
    private readonly bool _breaks;

    /// <summary>Begins to listen.</summary>
    /// <param name="path">Where clients connect.</param>
    /// <param name="monitor">The real monitor.</param>
    /// <param name="command">The command whose answer is lost, the first time.</param>
    /// <param name="reaches">False to lose the command itself.</param>
    /// <param name="breaks">True to end the connection then, false to say nothing any more on it.</param>
    internal QmpProxy(string path, string monitor, string command, bool reaches, bool breaks)
    {
        (_path, _monitor, _command, _reaches, _breaks) = (path, monitor, command, reaches, breaks);
        _listener.Bind(new UnixDomainSocketEndPoint(path));
        _listener.Listen(8);
        _ = AcceptAsync();
    }

    /// <summary>Times that the command came.</summary>
    internal int Seen => Volatile.Read(ref _seen);

    /// <summary>True to accept no connection any more after the loss.</summary>
    internal bool StaysAway { get; init; }

    private int _seen;

    public void Dispose()
    {
        _listener.Dispose();
        lock (_sockets)
        {
            _sockets.ForEach(socket => socket.Dispose());
        }

        File.Delete(_path);
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var client = await _listener.AcceptAsync();
                if (StaysAway && Seen > 0)
                {
                    client.Dispose();
                    continue;
                }

                var monitor = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await monitor.ConnectAsync(new UnixDomainSocketEndPoint(_monitor));
                lock (_sockets)
                {
                    _sockets.AddRange([client, monitor]);
                }

                var state = new Lost();
                _ = PumpAsync(client, monitor, state, fromClient: true);
                _ = PumpAsync(monitor, client, state, fromClient: false);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The proxy has ended.
        }
    }

    private sealed class Lost
    {
        internal volatile bool Now;
    }

    private async Task PumpAsync(Socket from, Socket to, Lost lost, bool fromClient)
    {
        byte[] buffer = new byte[65536];
        try
        {
            int received;
            while ((received = await from.ReceiveAsync(buffer)) > 0)
            {
                if (fromClient && Encoding.UTF8.GetString(buffer, 0, received).Contains($"\"execute\":\"{_command}\"", StringComparison.Ordinal) && Interlocked.Increment(ref _seen) == 1)
                {
                    lost.Now = true;
                    if (_reaches)
                    {
                        await to.SendAsync(buffer.AsMemory(0, received));
                    }

                    if (_breaks)
                    {
                        // QEMU reads what came before the end of a connection.
                        to.Shutdown(SocketShutdown.Send);
                        from.Dispose();
                        return;
                    }

                    continue;
                }

                if (!lost.Now)
                {
                    await to.SendAsync(buffer.AsMemory(0, received));
                }
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // One end has gone.
        }

        from.Dispose();
        to.Dispose();
    }
}
