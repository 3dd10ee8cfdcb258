using System.Net;
using System.Net.Sockets;

namespace MigrationOps.Interop.Tests.Moving;

/// <summary>A TCP connection in the middle of a migration that withholds bytes, breaks or goes silent to order.</summary>
internal sealed class TestRelay : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly List<Socket> _sockets = [];
    private readonly int _target;
    private TaskCompletionSource _backward = Open();
    private TaskCompletionSource _forward = Open();
    private volatile bool _isCut;

    /// <summary>Begins to listen.</summary>
    /// <param name="target">Where the target listens: tcp:127.0.0.1:PORT.</param>
    internal TestRelay(string target)
    {
        _target = int.Parse(target.Split(':')[^1], System.Globalization.CultureInfo.InvariantCulture);
        _listener.Start();
        _ = AcceptAsync();
    }

    /// <summary>Where the source is to connect.</summary>
    internal string Uri => $"tcp:127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

    /// <summary>Bytes that went to the target.</summary>
    internal long Forwarded => Interlocked.Read(ref _forwarded);

    private long _forwarded;

    /// <summary>Keeps back what the target says from now on.</summary>
    internal void HoldBack() => _backward = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Keeps back everything from now on, in both directions.</summary>
    internal void GoSilent()
    {
        _forward = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        HoldBack();
    }

    /// <summary>Lets everything through again.</summary>
    internal void Release()
    {
        _backward.TrySetResult();
        _forward.TrySetResult();
    }

    /// <summary>Breaks the connections, with what was kept back.</summary>
    internal void Cut()
    {
        _isCut = true;
        _listener.Stop();
        lock (_sockets)
        {
            foreach (var socket in _sockets)
            {
                socket.Dispose();
            }
        }

        Release();
    }

    public void Dispose() => Cut();

    private static TaskCompletionSource Open()
    {
        var open = new TaskCompletionSource();
        open.SetResult();
        return open;
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var source = await _listener.AcceptSocketAsync();
                var target = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                await target.ConnectAsync(IPAddress.Loopback, _target);
                lock (_sockets)
                {
                    _sockets.AddRange([source, target]);
                }

                _ = PumpAsync(source, target, () => _forward.Task, count => Interlocked.Add(ref _forwarded, count));
                _ = PumpAsync(target, source, () => _backward.Task, static _ => { });
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The relay has ended.
        }
    }

    private async Task PumpAsync(Socket from, Socket to, Func<Task> gate, Action<int> count)
    {
        byte[] buffer = new byte[65536];
        try
        {
            int received;
            while ((received = await from.ReceiveAsync(buffer)) > 0)
            {
                await gate();
                if (_isCut)
                {
                    return;
                }

                count(received);
                for (int sent = 0; sent < received;)
                {
                    sent += await to.SendAsync(buffer.AsMemory(sent, received - sent));
                }
            }

            to.Shutdown(SocketShutdown.Send);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // What broke at one end breaks at the other.
            from.Dispose();
            to.Dispose();
        }
    }
}
