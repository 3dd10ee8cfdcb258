using System.Net.Sockets;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qmp;

/// <summary>The connection below a client: bytes in both directions, without a thread where the transport allows it.</summary>
internal abstract class QmpLink : IDisposable
{
    /// <summary>The process at the other end of a UNIX socket: the one that listened first; null over TCP.</summary>
    internal PeerProcessInfo? Peer { get; private init; }

    /// <summary>Reads what there is; 0 at the end of the stream.</summary>
    internal abstract ValueTask<int> ReceiveAsync(Memory<byte> buffer);

    /// <summary>Writes everything.</summary>
    internal abstract ValueTask SendAsync(ReadOnlyMemory<byte> data, CancellationToken cancellationToken);

    /// <summary>Ends the connection, so that a waiting read and write end too; <see cref="Dispose"/> follows when they have.</summary>
    internal abstract void Abort();

    public abstract void Dispose();

    /// <summary>Connects. Nothing has been read yet.</summary>
    /// <exception cref="WireException">The endpoint cannot be reached.</exception>
    internal static Task<QmpLink> ConnectAsync(Endpoint endpoint, TransportSecurity security, TimeSpan timeout, CancellationToken cancellationToken)
        // A UNIX socket connects at once or not at all; for another thread to do it would cost more than the rest of the greeting.
        => endpoint is Endpoint.Unix ? OpenHere(endpoint, security, timeout, cancellationToken)
            : Task.Run(() => Open(endpoint, security, timeout, cancellationToken), cancellationToken);

    private static Task<QmpLink> OpenHere(Endpoint endpoint, TransportSecurity security, TimeSpan timeout, CancellationToken cancellationToken)
    {
        try
        {
            return Task.FromResult(Open(endpoint, security, timeout, cancellationToken));
        }
        catch (Exception e) when (e is WireException or OperationCanceledException)
        {
            return Task.FromException<QmpLink>(e);
        }
    }

    private static QmpLink Open(Endpoint endpoint, TransportSecurity security, TimeSpan timeout, CancellationToken cancellationToken)
    {
        if (endpoint is Endpoint.Tcp && security.TlsDirectory is not null)
        {
            return new StreamLink(endpoint, security, timeout, cancellationToken);
        }

        using var scope = new TransferScope(timeout, cancellationToken);
        var socket = Transport.OpenSocket(endpoint, security, scope);
        var peer = endpoint is Endpoint.Unix ? PeerProcessInfo.Of(SocketCalls.GetPeerCredentials(socket.SafeHandle, endpoint.ToString())) : null;
        return new SocketLink(socket) { Peer = peer };
    }

    /// <summary>A socket that the platform's event loop watches: a waiting monitor costs no thread.</summary>
    internal sealed class SocketLink(Socket socket) : QmpLink
    {
        internal override ValueTask<int> ReceiveAsync(Memory<byte> buffer) => socket.ReceiveAsync(buffer, SocketFlags.None);

        internal override async ValueTask SendAsync(ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
        {
            while (!data.IsEmpty)
            {
                data = data[await socket.SendAsync(data, SocketFlags.None, cancellationToken).ConfigureAwait(false)..];
            }
        }

        internal override void Abort() => socket.Dispose();

        public override void Dispose() => socket.Dispose();
    }

    /// <summary>TLS: the engine's streams are synchronous, so a waiting read takes a thread.</summary>
    private sealed class StreamLink : QmpLink
    {
        private readonly CancellationTokenSource _stop = new();
        private readonly TransferScope _scope;
        private readonly Stream _stream;

        internal StreamLink(Endpoint endpoint, TransportSecurity security, TimeSpan timeout, CancellationToken cancellationToken)
        {
            _scope = new TransferScope(Timeout.InfiniteTimeSpan, _stop.Token);
            using var given = cancellationToken.Register(_stop.Cancel);
            try
            {
                _stop.CancelAfter(timeout);
                _stream = Transport.Connect(endpoint, security, _scope);
                _stop.CancelAfter(Timeout.InfiniteTimeSpan);
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                _scope.Dispose();
                _stop.Dispose();
                throw new WireException(WireError.Timeout, $"No connection to {endpoint} within {timeout.TotalSeconds:0.###} s.") { Target = endpoint.ToString() };
            }
            catch
            {
                _scope.Dispose();
                _stop.Dispose();
                throw;
            }
        }

        internal override ValueTask<int> ReceiveAsync(Memory<byte> buffer)
            => new(Task.Factory.StartNew(() => _stream.Read(buffer.Span), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default));

        internal override ValueTask SendAsync(ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
            => new(Task.Run(() => _stream.Write(data.Span), cancellationToken));

        internal override void Abort() => _stop.Cancel();

        public override void Dispose()
        {
            _stream.Dispose();
            _scope.Dispose();
            _stop.Dispose();
        }
    }
}
