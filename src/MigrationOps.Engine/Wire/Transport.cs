using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Security;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Wire;

/// <summary>How an endpoint may be reached: with TLS, or in the clear beyond this machine.</summary>
/// <param name="TlsDirectory">Directory with QEMU's x509 layout, or null for no TLS.</param>
/// <param name="AllowPlaintext">True to let bytes cross a network unprotected.</param>
/// <param name="TlsHostName">The name that the server's certificate must carry, where it is not the endpoint's; null for the endpoint's.</param>
/// <param name="TlsPassphrase">For the side's key, if it is encrypted; stays the caller's.</param>
public sealed record TransportSecurity(
    string? TlsDirectory = null, bool AllowPlaintext = false, string? TlsHostName = null, SecureString? TlsPassphrase = null)
{
    /// <summary>No TLS, loopback only.</summary>
    public static TransportSecurity Default { get; } = new();

    internal void Check(Endpoint endpoint)
    {
        if (endpoint.IsNetwork && TlsDirectory is null && !AllowPlaintext)
        {
            throw new WireException(WireError.PlaintextRefused,
                $"{endpoint} is not a loopback address, and the transfer would cross the network in the clear.")
            { Target = endpoint.ToString() };
        }
    }
}

/// <summary>The one way to open endpoints: connect, listen, read a file, write to a descriptor.</summary>
internal static class Transport
{
    private static readonly TimeSpan FullQueuePause = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan FullQueuePatience = TimeSpan.FromSeconds(2);

    /// <summary>Opens the endpoint to send to it: connects a socket, or takes a descriptor. Files are Storage's.</summary>
    /// <returns>A stream that the caller disposes.</returns>
    public static Stream Connect(Endpoint endpoint, TransportSecurity security, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        ArgumentNullException.ThrowIfNull(security);
        security.Check(endpoint);
        if (endpoint is Endpoint.Fd fd)
        {
            return OpenDescriptor(fd, scope);
        }

        using var tls = endpoint is Endpoint.Tcp && security.TlsDirectory is not null
            ? TlsFiles.Load(security, isServer: false)
            : null;
        var stream = FdStream.Over(ConnectSocket(endpoint, scope), scope, endpoint.ToString());
        return tls is null ? stream : tls.Authenticate(stream, security.TlsHostName ?? ((Endpoint.Tcp)endpoint).Host);
    }

    /// <summary>Connects a UNIX socket for messages with descriptors.</summary>
    /// <param name="path">Path of the socket.</param>
    /// <param name="scope">Deadline and cancellation, for the connection's life.</param>
    /// <exception cref="WireException"><see cref="WireError.NotFound"/>, <see cref="WireError.NotASocket"/>,
    /// <see cref="WireError.ConnectFailed"/>, <see cref="WireError.AccessDenied"/>.</exception>
    public static UnixConnection ConnectUnix(string path, TransferScope scope)
        => new(ConnectSocket(new Endpoint.Unix(path), scope), scope, path);

    /// <summary>Connects a socket without TLS, for a caller that waits for its data by itself.</summary>
    internal static Socket OpenSocket(Endpoint endpoint, TransportSecurity security, TransferScope scope)
    {
        security.Check(endpoint);
        return ConnectSocket(endpoint, scope);
    }

    /// <summary>Listens on a socket endpoint; credentials are checked before the address is bound.</summary>
    public static Listener Listen(Endpoint endpoint, TransportSecurity security, TransferScope scope) => Listen(endpoint, security, scope, SocketAccess.Default);

    // With the mode and the owner that the file of a UNIX socket gets.
    internal static Listener Listen(Endpoint endpoint, TransportSecurity security, TransferScope scope, SocketAccess access)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        ArgumentNullException.ThrowIfNull(security);
        if (endpoint is Endpoint.Tcp { Host: "" })
        {
            endpoint = new Endpoint.Tcp("0.0.0.0", ((Endpoint.Tcp)endpoint).Port);
        }

        security.Check(endpoint);
        var tls = endpoint is Endpoint.Tcp && security.TlsDirectory is not null
            ? TlsFiles.Load(security, isServer: true)
            : null;
        try
        {
            return new Listener(endpoint, BindSocket(endpoint, access), tls, scope);
        }
        catch
        {
            tls?.Dispose();
            throw;
        }
    }

    /// <summary>Listens without TLS, for a server that waits for its connections by itself.</summary>
    internal static Socket OpenListener(Endpoint endpoint, TransportSecurity security)
    {
        security.Check(endpoint);
        return BindSocket(endpoint, SocketAccess.Default);
    }

    /// <summary>Takes a descriptor of this process by number. It is duplicated; the caller's stays open.</summary>
    public static FdStream OpenDescriptor(Endpoint.Fd endpoint, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        string name = endpoint.ToString();
        var handle = Fcntl.Duplicate(endpoint.Number, name);
        try
        {
            // Both numbers share one open file: what we need non-blocking, its owner gets back as it was.
            bool blocks = Fcntl.IsBlocking(handle, name);
            return new FdStream(handle, Fcntl.GetAccess(handle, name), scope, name, blocks ? new LentDescriptor(handle, name) : null);
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    private sealed class LentDescriptor(SafeFileHandle handle, string name) : IDisposable
    {
        public void Dispose()
        {
            if (!handle.IsClosed)
            {
                Fcntl.SetBlocking(handle, name);
                handle.Dispose();
            }
        }
    }

    /// <summary>True if the peer of a stream can answer on it: a socket, with TLS or without.</summary>
    internal static bool HasReturnPath(Stream stream) => stream is not FdStream fd || fd.Kind == FileKind.Socket;

    // Without the platform's asynchronous connect: a socket that went through it stays with the platform's event loop, which then
    // wakes at every change of the socket's state for the rest of its life.
    private static Socket ConnectSocket(Endpoint endpoint, TransferScope scope)
    {
        var deadline = scope.StartDeadline();
        // A name may have an address without a listener (::1 beside 127.0.0.1): the next one has its turn.
        int error = 0;
        foreach (var address in ResolveWithin(endpoint, scope))
        {
            var socket = NewSocket(address);
            try
            {
                error = Connect(socket, address, scope, deadline, endpoint);
                if (error == 0)
                {
                    return socket;
                }
            }
            catch
            {
                socket.Dispose();
                throw;
            }

            socket.Dispose();
        }

        throw ConnectFailure(endpoint, error);
    }

    private static int Connect(Socket socket, EndPoint address, TransferScope scope, Deadline deadline, Endpoint endpoint)
    {
        string name = endpoint.ToString();
        var native = address.Serialize();
        Fcntl.SetNonBlocking(socket.SafeHandle, name);
        var queueIsFull = new Deadline(FullQueuePatience);
        int error;
        while ((error = SocketCalls.Connect(socket.SafeHandle, native.Buffer.Span[..native.Size])) == NativeError.EAGAIN
            && !queueIsFull.HasPassed && !deadline.HasPassed)
        {
            // The queue of a UNIX listener is full, and nothing says when it has room again. One that has all the connections
            // that it wants never has.
            scope.CancellationToken.WaitHandle.WaitOne(FullQueuePause);
            scope.CancellationToken.ThrowIfCancellationRequested();
        }

        if (error == NativeError.EINPROGRESS)
        {
            scope.Wait(socket.SafeHandle, PollEvents.Writable, deadline, $"a connection to {endpoint}");
            error = SocketCalls.TakeError(socket.SafeHandle, name);
        }

        Fcntl.SetBlocking(socket.SafeHandle, name);
        return error;
    }

    // Names are looked up within the deadline of the connection.
    private static EndPoint[] ResolveWithin(Endpoint endpoint, TransferScope scope)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(scope.CancellationToken);
        if (scope.Timeout != Timeout.InfiniteTimeSpan)
        {
            deadline.CancelAfter(scope.Timeout);
        }

        try
        {
            return Resolve(endpoint, WireError.ConnectFailed, deadline.Token);
        }
        catch (OperationCanceledException) when (!scope.CancellationToken.IsCancellationRequested)
        {
            throw scope.Expired($"a connection to {endpoint}");
        }
    }

    private static WireException ConnectFailure(Endpoint endpoint, int error)
    {
        var reason = (error, endpoint) switch
        {
            (NativeError.EACCES or NativeError.EPERM, _) => WireError.AccessDenied,
            (_, Endpoint.Unix { Path: not ['@', ..] and var path }) => KindOf(path) switch
            {
                null => WireError.NotFound,
                FileKind.Socket => WireError.ConnectFailed,
                _ => WireError.NotASocket,
            },
            _ => WireError.ConnectFailed,
        };
        string what = reason switch
        {
            WireError.NotFound => "there is no such socket",
            WireError.NotASocket => "it is not a socket",
            _ when error == NativeError.EAGAIN => "its queue of connections is full, and it accepts none",
            _ => Marshal.GetPInvokeErrorMessage(error),
        };
        return new WireException(reason, $"Cannot connect to {endpoint}: {what}.")
        {
            Peer = endpoint.ToString(),
            Target = (endpoint as Endpoint.Unix)?.Path ?? endpoint.ToString(),
        };
    }

    // What a path leads to through its links; null if nothing.
    private static FileKind? KindOf(string path)
    {
        try
        {
            return FileKinds.Of(path);
        }
        catch (WireException e) when (e.Reason == WireError.NotFound)
        {
            return null;
        }
    }

    private static Socket BindSocket(Endpoint endpoint, SocketAccess access)
    {
        var address = Resolve(endpoint, WireError.ListenFailed, CancellationToken.None)[0];
        var socket = NewSocket(address);
        try
        {
            socket.Bind(address);
            if (endpoint is Endpoint.Unix { Path: not ['@', ..] and var path })
            {
                // Before it listens: no peer connects until then.
                Restrict(path, access);
            }

            socket.Listen(128);
            return socket;
        }
        catch (WireException)
        {
            socket.Dispose();
            throw;
        }
        catch (SocketException e)
        {
            socket.Dispose();
            throw new WireException(WireError.ListenFailed, $"Cannot listen on {endpoint}: {e.Message.TrimEnd('.')}.", e)
            {
                Target = endpoint.ToString(),
            };
        }
    }

    private static void Restrict(string path, SocketAccess access)
    {
        try
        {
            access.Apply(path);
        }
        catch
        {
            File.Delete(path);
            throw;
        }
    }

    private static Socket NewSocket(EndPoint address) => address is UnixDomainSocketEndPoint
        ? new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified)
        : new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };

    // At least one address; a host that has none cannot be resolved.
    private static EndPoint[] Resolve(Endpoint endpoint, WireError reason, CancellationToken cancellationToken)
    {
        try
        {
            return endpoint switch
            {
                Endpoint.Unix { Path: ['@', .. var name] } => [new UnixDomainSocketEndPoint("\0" + name)],
                Endpoint.Unix unix => [new UnixDomainSocketEndPoint(unix.Path)],
                Endpoint.Tcp tcp => [.. AddressesOf(tcp.Host, cancellationToken).Select(address => new IPEndPoint(address, tcp.Port))],
                _ => throw new WireException(WireError.UnsupportedEndpoint, $"{endpoint} is not a socket address."),
            };
        }
        catch (ArgumentOutOfRangeException e)
        {
            throw new WireException(WireError.InvalidEndpoint,
                $"The socket path of {endpoint} is longer than the 107 bytes that Linux allows.", e,
                "Use a shorter path, or a symbolic link to its directory.");
        }
        catch (SocketException e)
        {
            throw new WireException(reason, $"The host of {endpoint} cannot be resolved: {e.Message.TrimEnd('.')}.", e);
        }
    }

    private static IPAddress[] AddressesOf(string host, CancellationToken cancellationToken)
        => IPAddress.TryParse(host, out var address) ? [address]
            : Dns.GetHostAddressesAsync(host, cancellationToken).GetAwaiter().GetResult() is { Length: > 0 } found ? found
            : throw new SocketException((int)SocketError.HostNotFound);
}
