using System.Net.Sockets;
using MigrationOps.Engine.Relay;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Tests.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Relay;

/// <summary>A relay between connections that a test writes, and a target that takes and keeps whatever comes.</summary>
internal sealed class RelayRig : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly List<Socket> _accepted = [];
    private readonly List<NetworkStream> _sources = [];
    private readonly List<Task> _writing = [];
    private readonly List<Task<byte[]>> _received = [];
    private readonly Task _accepting;

    internal RelayRig(RelayOptions? options = null)
    {
        _listener.Bind(new UnixDomainSocketEndPoint(_folder.File("target")));
        _listener.Listen(16);
        _accepting = Waiting.OnThread(Accept);
        var listen = new Endpoint.Unix(_folder.File("relay"));
        var target = new Endpoint.Unix(_folder.File("target"));
        Relay = MigrationRelay.Start(options is null
            ? new RelayOptions { Listen = listen, Target = target, Timeout = Waiting.Patience }
            : options with { Listen = listen, Target = target });
    }

    internal MigrationRelay Relay { get; }

    /// <summary>Connects and writes, on a thread of its own as a source does: the relay may wait for another connection, or end this one.</summary>
    internal NetworkStream Send(byte[] bytes, bool ends = false)
    {
        var source = HandMade.Connect(Relay.Endpoint);
        _sources.Add(source);
        _writing.Add(Waiting.OnThread(() =>
        {
            try
            {
                source.Write(bytes);
                if (ends)
                {
                    source.Socket.Shutdown(SocketShutdown.Send);
                }
            }
            catch (IOException)
            {
                // The relay ended it because of what it brought; that is what the test looks at.
            }
        }));
        return source;
    }

    /// <summary>Waits for a condition on what the relay knows.</summary>
    internal RelayStatus WaitFor(Func<RelayStatus, bool> condition)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        patience.CancelAfter(Waiting.Patience / 3);
        try
        {
            return Relay.WaitFor(condition, patience.Token);
        }
        catch (OperationCanceledException)
        {
            Assert.Fail($"It never came: {Relay.Status} {string.Join(", ", Relay.Status.Channels)} {string.Join(", ", Relay.Status.Warnings)}");
            throw;
        }
    }

    /// <summary>What the target has got on each connection, in the order of connecting; waits until they have ended.</summary>
    internal byte[][] Received()
    {
        lock (_received)
        {
            return [.. _received.Select(task => task.Result("the target reads to the end"))];
        }
    }

    internal void EndSources()
    {
        _writing.ForEach(task => task.Join("the source writes"));
        _sources.ForEach(source => source.Socket.Shutdown(SocketShutdown.Send));
    }

    public void Dispose()
    {
        Relay.Dispose();
        _writing.ForEach(task => task.Join("the source writes"));
        _sources.ForEach(source => source.Dispose());
        _listener.Dispose();
        _accepting.Join("the target ends");
        _accepted.ForEach(socket => socket.Dispose());
        _folder.Dispose();
    }

    private void Accept()
    {
        while (true)
        {
            Socket socket;
            try
            {
                socket = _listener.Accept();
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                return;
            }

            _accepted.Add(socket);
            lock (_received)
            {
                _received.Add(Waiting.OnThread(() =>
                {
                    using var all = new MemoryStream();
                    using var stream = new NetworkStream(socket);
                    stream.CopyTo(all);
                    return all.ToArray();
                }));
            }
        }
    }
}
