using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>Runs the drivers over endpoints: files, sockets, descriptors.</summary>
public static class SaveVmTransfer
{
    /// <summary>Sends what is registered. A file appears whole or not at all.</summary>
    /// <exception cref="SaveVmException">The migration failed.</exception>
    /// <exception cref="WireException">The endpoint failed.</exception>
    public static MigrationStreamTransfer Send(SaveVmRegistry registry, Endpoint endpoint, TransportSecurity security,
        SaveVmSourceOptions options, IoScope scope, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        ArgumentNullException.ThrowIfNull(options);
        CheckChannels(endpoint, options.MultifdChannels);
        var source = new SaveVmSource(registry, options with { Uri = endpoint.ToString() }, logger);
        return endpoint is Endpoint.File file ? SendToFile(source, options, file, scope)
            : Connected(source.Run, inner => Transport.Connect(endpoint, security, inner), scope);
    }

    /// <summary>Receives a stream into what is registered: from one connection to a socket endpoint, a file or a descriptor.</summary>
    /// <exception cref="SaveVmException">The migration failed.</exception>
    /// <exception cref="WireException">The endpoint failed.</exception>
    public static MigrationStreamTransfer Receive(SaveVmRegistry registry, Endpoint endpoint, TransportSecurity security,
        SaveVmTargetOptions options, IoScope scope, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        ArgumentNullException.ThrowIfNull(options);
        var target = new SaveVmTarget(registry, options with { Uri = endpoint.ToString(), ReturnPath = endpoint is not Endpoint.File }, logger);
        CheckChannels(endpoint, options.MultifdChannels);
        using var accepting = new Accepting(endpoint, security, options.MultifdChannels + 1);
        return Connected(target.Run, accepting.Open, scope);
    }

    private static MigrationStreamTransfer SendToFile(SaveVmSource source, SaveVmSourceOptions options, Endpoint.File endpoint, IoScope scope)
    {
        string? why = endpoint.Offset != 0 ? "a stream is written from the file's first byte on"
            : options.ReturnPath ? "a file cannot answer on a return path"
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

    private static void CheckChannels(Endpoint endpoint, int channels)
    {
        if (channels > 0 && endpoint is Endpoint.File or Endpoint.Fd)
        {
            throw new WireException(WireError.UnsupportedEndpoint,
                $"{endpoint}: multifd channels are connections of their own, which only an address has.")
            { Target = endpoint.ToString() };
        }
    }

    private static MigrationStreamTransfer Connected(Func<Func<IoScope, Stream>, IoScope, MigrationStreamTransfer> run, Func<IoScope, Stream> open, IoScope scope)
    {
        var connections = new List<Stream>();
        try
        {
            return run(inner =>
            {
                var connection = open(inner);
                connections.Add(connection);
                return connection;
            }, scope);
        }
        finally
        {
            connections.ForEach(c => c.Dispose());
        }
    }

    // Listens from the first connection to the last.
    private sealed class Accepting(Endpoint endpoint, TransportSecurity security, int connections) : IDisposable
    {
        private Listener? _listener;
        private int _left = connections;

        public void Dispose() => _listener?.Dispose();

        internal Stream Open(IoScope scope)
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
                    var connection = _listener.Accept("the source of the migration");
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
