using System.Net;
using System.Net.Sockets;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Wire;

/// <summary>A listening socket. Disposing it closes it and removes its socket file.</summary>
internal sealed class Listener : IDisposable
{
    private const int MostSilent = 64;

    private readonly Socket _socket;
    private readonly TlsFiles? _tls;
    private readonly TransferScope _scope;
    private readonly string? _socketFile;

    // Those that have connected and not spoken yet: the next call may be for them, as a source with multifd channels opens several.
    private readonly List<FdStream> _silent = [];

    internal Listener(Endpoint endpoint, Socket socket, TlsFiles? tls, TransferScope scope)
    {
        _socket = socket;
        _tls = tls;
        _scope = scope;
        Endpoint = endpoint is Endpoint.Tcp tcp ? tcp with { Port = ((IPEndPoint)socket.LocalEndPoint!).Port } : endpoint;
        _socketFile = endpoint is Endpoint.Unix { Path: not ['@', ..] } unix ? Path.GetFullPath(unix.Path) : null;
    }

    /// <summary>Where it listens; with port 0 the port that the system chose.</summary>
    public Endpoint Endpoint { get; }

    /// <summary>Told of every connection that was turned away because its TLS handshake failed. Any thread may call it.</summary>
    internal Action<WireException>? TurnedAway { get; set; }

    /// <summary>Accepts one connection, and does the TLS handshake if there are credentials, as <see cref="AcceptSpeaking"/> does.</summary>
    /// <param name="waitingFor">What the error names.</param>
    /// <returns>A stream that the caller disposes.</returns>
    public Stream Accept(string waitingFor)
        => _tls is null ? FdStream.Over(AcceptSocket(waitingFor, _scope), _scope, Endpoint.ToString()) : AcceptSpeaking(waitingFor);

    /// <summary>
    /// Accepts the first connection that says something, and does the TLS handshake if there are credentials. Whoever connects and
    /// says nothing, closes again or fails the handshake - a port scan, a health check - does not stand in the way of the peer.
    /// </summary>
    /// <param name="waitingFor">What the error names.</param>
    /// <returns>A stream that the caller disposes.</returns>
    /// <exception cref="WireException">No connection within the deadline: <see cref="WireError.Timeout"/>, or the last failed handshake.</exception>
    public Stream AcceptSpeaking(string waitingFor)
    {
        var deadline = _scope.StartDeadline();
        WireException? refused = null;
        while (true)
        {
            int ready = _scope.TryWaitAny([_socket.SafeHandle, .. _silent.Select(s => s.Handle)], deadline);
            if (ready < 0)
            {
                throw refused ?? _scope.Expired($"{waitingFor} on {Endpoint}");
            }

            if (ready == 0)
            {
                AcceptSilent(waitingFor);
                continue;
            }

            var stream = _silent[ready - 1];
            _silent.RemoveAt(ready - 1);
            if (!stream.HasBytesUntil(new Deadline(TimeSpan.Zero)))
            {
                stream.Dispose();
                continue;
            }

            try
            {
                return Protect(stream);
            }
            catch (WireException e) when (e.Reason == WireError.TlsFailed)
            {
                refused = e;
                TurnedAway?.Invoke(e);
            }
        }
    }

    /// <summary>
    /// Accepts one connection and leaves the TLS handshake to the caller, so that a peer that does not continue its own
    /// does not delay other connections.
    /// </summary>
    /// <param name="waitingFor">What the error names.</param>
    /// <param name="scope">Deadline and cancellation of the connection.</param>
    /// <param name="accepting">Deadline and cancellation of this wait.</param>
    /// <returns>A stream that the caller disposes, after <see cref="Protect"/>.</returns>
    public FdStream AcceptUnprotected(string waitingFor, TransferScope scope, TransferScope accepting)
        => FdStream.Over(AcceptSocket(waitingFor, accepting), scope, Endpoint.ToString(), waitsInKernel: true);

    /// <summary>Does the TLS handshake if there are credentials; else the stream stays as it is.</summary>
    /// <param name="stream">The connection; the result owns it.</param>
    /// <param name="within">How long it may take; null for the stream's limit.</param>
    public Stream Protect(FdStream stream, TimeSpan? within = null) => _tls is null ? stream : _tls.Authenticate(stream, "", within);

    /// <summary>True if a connection waits to be accepted.</summary>
    public bool HasPending => _socket.Poll(0, SelectMode.SelectRead);

    /// <summary>Accepts one connection for messages with descriptors.</summary>
    public UnixConnection AcceptUnix(string waitingFor) => new(AcceptSocket(waitingFor, _scope), _scope, Endpoint.ToString());

    /// <inheritdoc/>
    public void Dispose()
    {
        _silent.ForEach(s => s.Dispose());
        _socket.Dispose();
        _tls?.Dispose();
        if (_socketFile is not null && File.Exists(_socketFile))
        {
            File.Delete(_socketFile);
        }
    }

    // Of too many that say nothing the oldest has to go.
    private void AcceptSilent(string waitingFor)
    {
        if (_silent.Count == MostSilent)
        {
            _silent[0].Dispose();
            _silent.RemoveAt(0);
        }

        _silent.Add(FdStream.Over(AcceptSocket(waitingFor, _scope), _scope, Endpoint.ToString()));
    }

    private Socket AcceptSocket(string waitingFor, TransferScope scope)
    {
        var deadline = scope.StartDeadline();
        while (true)
        {
            scope.Wait(_socket.SafeHandle, PollEvents.Readable, deadline, $"{waitingFor} on {Endpoint}");
            // The peer may have gone between poll and accept; a non-blocking accept then says so instead of waiting.
            _socket.Blocking = false;
            try
            {
                var accepted = _socket.Accept();
                accepted.Blocking = true;
                if (accepted.AddressFamily != AddressFamily.Unix)
                {
                    accepted.NoDelay = true;
                }

                return accepted;
            }
            catch (SocketException e) when (e.SocketErrorCode is SocketError.WouldBlock or SocketError.ConnectionAborted)
            {
                continue;
            }
            catch (SocketException e)
            {
                throw new WireException(
                    e.SocketErrorCode == SocketError.TooManyOpenSockets ? WireError.TooManyDescriptors : WireError.ListenFailed,
                    $"Cannot accept {waitingFor} on {Endpoint}: {e.Message.TrimEnd('.')}.", e);
            }
        }
    }
}
