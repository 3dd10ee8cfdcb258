using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>Runs the drivers over endpoints: files, sockets, descriptors.</summary>
internal static class SaveVmTransfer
{
    /// <summary>Sends what is registered. A file appears whole or not at all.</summary>
    /// <exception cref="SaveVmException">The migration failed.</exception>
    /// <exception cref="WireException">The endpoint failed.</exception>
    internal static MigrationStreamTransfer Send(SaveVmRegistry registry, Endpoint endpoint, TransportSecurity security,
        SaveVmSourceOptions options, TransferScope scope, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        ArgumentNullException.ThrowIfNull(options);
        return Send(new SaveVmSource(registry, options with { Uri = endpoint.ToString() }, logger), endpoint, security, scope);
    }

    /// <summary>Sends with a driver that the caller keeps, to resume it should the migration be paused.</summary>
    /// <exception cref="SaveVmException">The migration failed, or is paused: <see cref="IMigrationDriver.IsPaused"/>.</exception>
    /// <exception cref="WireException">The endpoint failed.</exception>
    internal static MigrationStreamTransfer Send(SaveVmSource source, Endpoint endpoint, TransportSecurity security, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(endpoint);
        CheckChannels(endpoint, source.Options.MultifdChannels);
        if (endpoint is Endpoint.File file)
        {
            return SendToFile(source, file, scope);
        }

        using var connections = new Connections(inner => Transport.Connect(endpoint, security, inner));
        return source.Run(connections.Open, scope);
    }

    /// <summary>Continues a paused migration: connects to the target again.</summary>
    /// <exception cref="SaveVmException">It is paused again.</exception>
    internal static MigrationStreamTransfer Resume(SaveVmSource source, Endpoint endpoint, TransportSecurity security, TransferScope scope, SaveVmSourceOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(source);
        RefuseFile(endpoint);
        using var connections = new Connections(inner => Transport.Connect(endpoint, security, inner));
        return source.Resume(connections.Open, scope, options);
    }

    /// <summary>Receives a stream into what is registered: from one connection to a socket endpoint, a file or a descriptor.</summary>
    /// <exception cref="SaveVmException">The migration failed.</exception>
    /// <exception cref="WireException">The endpoint failed.</exception>
    internal static MigrationStreamTransfer Receive(SaveVmRegistry registry, Endpoint endpoint, TransportSecurity security,
        SaveVmTargetOptions options, TransferScope scope, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        ArgumentNullException.ThrowIfNull(options);
        return Receive(new SaveVmTarget(registry, options with { Uri = endpoint.ToString(), ReturnPath = endpoint is not Endpoint.File }, logger), endpoint, security, scope);
    }

    /// <summary>Receives with a driver that the caller keeps, to resume it should the migration be paused.</summary>
    /// <exception cref="SaveVmException">The migration failed, or is paused: <see cref="IMigrationDriver.IsPaused"/>.</exception>
    /// <exception cref="WireException">The endpoint failed.</exception>
    internal static MigrationStreamTransfer Receive(SaveVmTarget target, Endpoint endpoint, TransportSecurity security, TransferScope scope, Action? listening = null)
    {
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(endpoint);
        CheckChannels(endpoint, target.Options.MultifdChannels);
        using var accepting = new Accepting(endpoint, security, target.Options.MultifdChannels + 1, listening);
        using var connections = new Connections(accepting.Open);
        return target.Run(connections.Open, scope);
    }

    /// <summary>Continues a paused migration: waits for the source's new connection.</summary>
    /// <exception cref="SaveVmException">It is paused again.</exception>
    internal static MigrationStreamTransfer Resume(SaveVmTarget target, Endpoint endpoint, TransportSecurity security, TransferScope scope, SaveVmTargetOptions? options = null, Action? listening = null)
    {
        ArgumentNullException.ThrowIfNull(target);
        RefuseFile(endpoint);
        using var accepting = new Accepting(endpoint, security, 1, listening);
        using var connections = new Connections(accepting.Open);
        return target.Resume(connections.Open, scope, options);
    }

    private static MigrationStreamTransfer SendToFile(SaveVmSource source, Endpoint.File endpoint, TransferScope scope)
    {
        string? why = endpoint.Offset != 0 ? "a stream is written from the file's first byte on"
            : source.Options.ReturnPath ? "a file cannot answer on a return path"
            : null;
        if (why is not null)
        {
            throw new WireException(WireError.UnsupportedEndpoint, $"{endpoint}: {why}.") { Target = endpoint.ToString() };
        }

        using var file = AtomicFile.Create(endpoint.Path, scope);
        var result = source.Run(_ => file.Stream, scope);
        file.Commit();
        return result;
    }

    private static void RefuseFile(Endpoint endpoint)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        if (endpoint is Endpoint.File)
        {
            throw new WireException(WireError.UnsupportedEndpoint, $"{endpoint}: a paused migration resumes only over a connection with a return path.")
            { Target = endpoint.ToString() };
        }
    }

    private static void CheckChannels(Endpoint endpoint, int channels)
    {
        if (channels > 0 && endpoint is Endpoint.File or Endpoint.Fd)
        {
            throw new WireException(WireError.UnsupportedEndpoint,
                $"{endpoint}: multifd channels are connections of their own, which only an address has.")
            { Target = endpoint.ToString() };
        }
    }

    /// <summary>The connections that a driver has opened; they are closed after it has ended.</summary>
    private sealed class Connections(Func<TransferScope, Stream> open) : IDisposable
    {
        private readonly List<Stream> _open = [];

        public void Dispose() => _open.ForEach(c => c.Dispose());

        internal Stream Open(TransferScope scope)
        {
            var connection = open(scope);
            _open.Add(connection);
            return connection;
        }
    }

    // Listens from the first connection to the last.
    private sealed class Accepting(Endpoint endpoint, TransportSecurity security, int connections, Action? listening) : IDisposable
    {
        private Listener? _listener;
        private readonly bool _several = connections > 1;
        private int _left = connections;

        public void Dispose() => _listener?.Dispose();

        internal Stream Open(TransferScope scope)
        {
            switch (endpoint)
            {
                case Endpoint.File file:
                    var stream = StateFile.OpenRead(file.Path, scope);
                    stream.Position = file.Offset;
                    return stream;
                case Endpoint.Fd fd:
                    return Transport.OpenDescriptor(fd, scope);
                default:
                    _listener ??= Transport.Listen(endpoint, security, scope);
                    listening?.Invoke();
                    // Of several the main channel says nothing before all are connected; the error then counts them.
                    var connection = _several
                        ? _listener.Accept("the source of the migration")
                        : _listener.AcceptSpeaking("the source of the migration");
                    if (--_left == 0)
                    {
                        _listener.Dispose();
                        _listener = null;
                    }

                    return connection;
            }
        }
    }
}
