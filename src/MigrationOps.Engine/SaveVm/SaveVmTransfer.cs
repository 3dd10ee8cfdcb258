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
        return Connected(target.Run, inner => Open(endpoint, security, inner), scope);
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

    private static Stream Open(Endpoint endpoint, TransportSecurity security, IoScope scope)
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
                using (var listener = Transport.Listen(endpoint, security, scope))
                {
                    return listener.Accept("the source of the migration");
                }
        }
    }

    private static MigrationStreamTransfer Connected(Func<Func<IoScope, Stream>, IoScope, MigrationStreamTransfer> run, Func<IoScope, Stream> open, IoScope scope)
    {
        Stream? connection = null;
        try
        {
            return run(inner => connection = open(inner), scope);
        }
        finally
        {
            connection?.Dispose();
        }
    }
}
