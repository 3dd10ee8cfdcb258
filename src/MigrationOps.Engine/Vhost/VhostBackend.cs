using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vhost;

/// <summary>
/// An embedded back-end: the server's side of the same protocol, for rehearsals and tests. It listens until it is
/// disposed and serves one front-end at a time, on a thread of its own.
/// </summary>
public sealed partial class VhostBackend : IDisposable
{
    private static readonly TimeSpan PauseWithoutDescriptors = TimeSpan.FromMilliseconds(100);

    private readonly CancellationTokenSource _stop = new();
    private readonly TransferScope _scope;
    private readonly Listener _listener;
    private readonly SideThread _thread;
    private readonly ILogger _logger;
    private long _bytesSaved;
    private long _bytesLoaded;
    private int _connections;

    private VhostBackend(VhostBackendOptions options, ILogger logger)
    {
        Options = options;
        _logger = logger;
        _scope = new TransferScope(Timeout.InfiniteTimeSpan, _stop.Token);
        try
        {
            var access = new SocketAccess(options.SocketMode, Group: options.SocketGroup is { } group ? SocketAccess.FindGroup(group) : null);
            _listener = Transport.Listen(new Endpoint.Unix(options.SocketPath), TransportSecurity.Default, _scope, access);
        }
        catch
        {
            _scope.Dispose();
            _stop.Dispose();
            throw;
        }

        _thread = SideThread.Start("vhost-user back-end", Serve);
    }

    /// <summary>What it offers and does.</summary>
    public VhostBackendOptions Options { get; }

    /// <summary>Bytes of state that front-ends have saved.</summary>
    public long BytesSaved => Interlocked.Read(ref _bytesSaved);

    /// <summary>Bytes of state that front-ends have loaded.</summary>
    public long BytesLoaded => Interlocked.Read(ref _bytesLoaded);

    /// <summary>Connections that have been accepted.</summary>
    public int Connections => Volatile.Read(ref _connections);

    /// <summary>True until it is disposed.</summary>
    public bool IsRunning => !_stop.IsCancellationRequested;

    /// <summary>Starts to listen; connections are served from then on.</summary>
    /// <exception cref="WireException"><see cref="WireError.ListenFailed"/>.</exception>
    public static VhostBackend Start(VhostBackendOptions options, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        return new VhostBackend(options, logger ?? NullLogger.Instance);
    }

    /// <summary>Ends connections and transfers, removes the socket file and waits for the thread.</summary>
    public void Dispose()
    {
        if (_stop.IsCancellationRequested)
        {
            return;
        }

        _stop.Cancel();
        _thread.Join();
        _thread.Dispose();
        _listener.Dispose();
        _scope.Dispose();
        _stop.Dispose();
    }

    internal void CountSaved(int bytes) => Interlocked.Add(ref _bytesSaved, bytes);

    internal void CountLoaded(int bytes) => Interlocked.Add(ref _bytesLoaded, bytes);

    internal void ReportStateFailure(Exception failure) => LogStateFailed(_logger, Options.SocketPath, failure.Message, failure);

    private void Serve()
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                using var connection = _listener.AcceptUnix("a front-end");
                Interlocked.Increment(ref _connections);
                using var session = new VhostBackendSession(this, connection);
                session.Run();
            }
            catch (OperationCanceledException)
            {
                return;
            }
            catch (MigrationOpsException e)
            {
                // A front-end that breaks off or misbehaves ends its connection; the next one is served all the same.
                LogSessionFailed(_logger, Options.SocketPath, e.Message, e);
                if (e is WireException { Reason: WireError.TooManyDescriptors })
                {
                    // The front-end still waits to be accepted, and nothing tells when a descriptor is free again.
                    _stop.Token.WaitHandle.WaitOne(PauseWithoutDescriptors);
                }
            }
        }
    }

    [LoggerMessage(EventId = 3, Level = LogLevel.Debug, Message = "{SocketPath}: the front-end's connection ended: {Reason}")]
    private static partial void LogSessionFailed(ILogger logger, string socketPath, string reason, Exception exception);

    [LoggerMessage(EventId = 5, Level = LogLevel.Warning, Message = "{SocketPath}: the state could not be moved: {Reason}")]
    private static partial void LogStateFailed(ILogger logger, string socketPath, string reason, Exception exception);
}
