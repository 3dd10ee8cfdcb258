using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vhost;

/// <summary>
/// Saves a back-end's state into a file or to another host. The destination is opened before the back-end is asked,
/// because some back-ends give their state only once; the end mark is written after the back-end's own check, so that
/// a failed save is not mistaken for a complete one.
/// </summary>
public static class VhostStateSaver
{
    /// <summary>What a receiver answers over a connection once the state is loaded there.</summary>
    internal const byte Confirmation = 0x06;

    /// <summary>Runs the save.</summary>
    /// <param name="options">What to save, and where to.</param>
    /// <param name="scope">Deadline of every wait, and cancellation.</param>
    /// <param name="logger">Gets the conversation; null for none.</param>
    /// <exception cref="VhostException">The back-end failed.</exception>
    /// <exception cref="WireException">The destination failed.</exception>
    public static VhostStateTransfer Save(VhostTransferOptions options, TransferScope scope, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(scope);
        if (options.Endpoint is Endpoint.File file)
        {
            return SaveToFile(options, file, scope, logger ?? NullLogger.Instance);
        }

        using var connection = Transport.Connect(options.Endpoint, options.Security, scope);
        var transfer = Transfer(options, connection, scope, logger ?? NullLogger.Instance, out _);
        (connection as FdStream)?.EndWriting();
        if (!options.Raw && Transport.HasReturnPath(connection))
        {
            AwaitConfirmation(connection, options, transfer);
        }
        else
        {
            (connection as TlsStream)?.End();
        }

        return transfer;
    }

    private static VhostStateTransfer SaveToFile(VhostTransferOptions options, Endpoint.File endpoint, TransferScope scope, ILogger logger)
    {
        if (endpoint.Offset != 0)
        {
            throw new WireException(WireError.UnsupportedEndpoint, $"{endpoint}: a state file has no offset.",
                action: "Give the path of a file that holds nothing else.");
        }

        using var file = AtomicFile.Create(endpoint.Path, scope);
        var transfer = Transfer(options, file.Stream, scope, logger, out var manifest) with { Path = file.Path };
        manifest.CommitWith(file, scope);
        return transfer;
    }

    private static VhostStateTransfer Transfer(VhostTransferOptions options, Stream target, TransferScope scope, ILogger logger,
        out StateManifest manifest)
    {
        var startedAt = DateTimeOffset.UtcNow;
        using var frontend = VhostFrontend.Connect(options.SocketPath, scope, logger);
        frontend.Negotiate();
        frontend.RequireDeviceState();
        long start = Stopwatch.GetTimestamp();
        using var writer = new StateWriter(target, DeviceStateKind.VhostUser, options.Raw, options.ComputeHash,
            bytes => options.Progress?.Invoke(bytes, null), scope.CancellationToken);
        var digest = VhostTransferPipe.Run(frontend, VhostTransferDirection.Save, scope, channel =>
        {
            writer.WriteToEnd(channel);
            return writer.EndData();
        });
        var duration = Stopwatch.GetElapsedTime(start);
        TransferMetrics.Record("vhost-user", "save", digest.Bytes, duration);
        writer.Complete();
        manifest = new StateManifest
        {
            Kind = DeviceStateKind.VhostUser,
            Id = options.Raw ? null : writer.Header.Id,
            Raw = options.Raw,
            Device = frontend.Peer.ToString(),
            Source = "unix:" + options.SocketPath,
            Features = VhostFeatures.NamesOfFeatures(frontend.Features),
            ProtocolFeatures = VhostFeatures.NamesOfProtocolFeatures(frontend.ProtocolFeatures),
            RawBytes = digest.Bytes,
            Chunks = digest.Chunks,
            Sha256 = digest.Sha256,
            Parts = writer.Parts,
            StartedAt = startedAt,
            FinishedAt = DateTimeOffset.UtcNow,
        };
        return new VhostStateTransfer
        {
            Device = frontend.Peer.ToString(),
            Direction = VhostTransferDirection.Save,
            SocketPath = options.SocketPath,
            Uri = options.Endpoint is Endpoint.File ? null : options.Endpoint.ToString(),
            Bytes = digest.Bytes,
            Chunks = digest.Chunks,
            Sha256 = digest.Sha256,
            Checked = true,
            StartedAt = startedAt.LocalDateTime,
            Duration = duration,
        };
    }

    private static void AwaitConfirmation(Stream connection, VhostTransferOptions options, VhostStateTransfer transfer)
    {
        Span<byte> answer = stackalloc byte[1];
        string? why = null;
        try
        {
            why = connection.Read(answer) == 0 ? "it closed the connection without a reason"
                : answer[0] != Confirmation ? $"it answered 0x{answer[0]:x2}"
                : null;
        }
        catch (WireException e)
        {
            throw NotConfirmed(e.Message, e);
        }

        if (why is not null)
        {
            throw NotConfirmed(why, null);
        }

        VhostException NotConfirmed(string reason, Exception? inner) => new(VhostError.NotConfirmed,
            $"The receiver at {options.Endpoint} did not confirm that it loaded the {transfer.Bytes:N0} bytes of state: {reason}.",
            innerException: inner)
        { Peer = options.Endpoint.ToString(), Target = options.Endpoint.ToString() };
    }
}
