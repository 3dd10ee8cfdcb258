using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vhost;

/// <summary>
/// Loads a state into a back-end, from a file or from another host. A file is verified whole before the back-end is
/// touched; from a connection the state goes to the back-end as it comes, and a failure tells that the back-end has to
/// be started anew.
/// </summary>
public static partial class VhostStateLoader
{
    /// <summary>Runs the restore.</summary>
    /// <param name="options">What to load, and into which back-end.</param>
    /// <param name="scope">Deadline of every wait, and cancellation.</param>
    /// <param name="logger">Gets the conversation; null for none.</param>
    /// <param name="listening">Called with the endpoint once it is listened on (the port is known then).</param>
    /// <exception cref="StateFileException">The state is not whole, or not the one that is expected.</exception>
    /// <exception cref="VhostException">The back-end failed.</exception>
    /// <exception cref="WireException">The other side failed.</exception>
    public static VhostStateTransfer Load(VhostTransferOptions options, TransferScope scope, ILogger? logger = null,
        Action<Endpoint>? listening = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(scope);
        logger ??= NullLogger.Instance;
        return options.Endpoint switch
        {
            Endpoint.File file => LoadFromFile(options, file, scope, logger),
            Endpoint.Fd fd => LoadFromDescriptor(options, fd, scope, logger),
            _ => LoadFromPeer(options, scope, logger, listening),
        };
    }

    private static VhostStateTransfer LoadFromFile(VhostTransferOptions options, Endpoint.File endpoint, TransferScope scope, ILogger logger)
    {
        using var file = StateFile.OpenRead(endpoint.Path, scope);
        file.Position = endpoint.Offset;
        var verification = StateFile.Verify(file, endpoint.Path, DeviceStateKind.VhostUser, options.Raw, requireManifest: false, scope);
        if (verification.Failure is { } failure)
        {
            throw failure;
        }

        var digest = verification.Digest!.Value;
        CheckExpected(options, endpoint.Path, digest.Sha256);
        file.Position = endpoint.Offset;
        using var frontend = Connect(options, scope, logger);
        bool raw = verification.Header is null;

        // The digest was just computed over the same open file, so the data may go by splice(2) now.
        return Transfer(options with { ComputeHash = false }, frontend, file, raw, digest.Bytes, expectEnd: true, scope, logger) with
        {
            Path = Path.GetFullPath(endpoint.Path),
            Sha256 = digest.Sha256,
        };
    }

    private static VhostStateTransfer LoadFromDescriptor(VhostTransferOptions options, Endpoint.Fd fd, TransferScope scope, ILogger logger)
    {
        using var source = Transport.OpenDescriptor(fd, scope);
        using var frontend = Connect(options, scope, logger);
        var transfer = Transfer(options, frontend, source, options.Raw, null, expectEnd: false, scope, logger) with { Uri = fd.ToString() };
        Confirm(source, options);
        return transfer;
    }

    private static VhostStateTransfer LoadFromPeer(VhostTransferOptions options, TransferScope scope, ILogger logger, Action<Endpoint>? listening)
    {
        using var listener = Transport.Listen(options.Endpoint, options.Security, scope);

        // A back-end that cannot take the state shall be found out before a source starts to send.
        using var frontend = Connect(options, scope, logger);
        LogListening(logger, listener.Endpoint);
        (listening ?? options.Listening)?.Invoke(listener.Endpoint);
        using var connection = listener.Accept("a sender");
        var transfer = Transfer(options, frontend, connection, options.Raw, null, expectEnd: false, scope, logger) with
        {
            Uri = listener.Endpoint.ToString(),
        };
        Confirm(connection, options);
        return transfer;
    }

    // The source takes the transfer for done when it hears this, and not before.
    private static void Confirm(Stream connection, VhostTransferOptions options)
    {
        if (!options.Raw && Transport.HasReturnPath(connection))
        {
            connection.WriteByte(VhostStateSaver.Confirmation);
            connection.Flush();
        }
    }

    private static VhostFrontend Connect(VhostTransferOptions options, TransferScope scope, ILogger logger)
    {
        var frontend = VhostFrontend.Connect(options.SocketPath, scope, logger);
        try
        {
            frontend.Negotiate();
            frontend.RequireDeviceState();
            return frontend;
        }
        catch
        {
            frontend.Dispose();
            throw;
        }
    }

    private static VhostStateTransfer Transfer(VhostTransferOptions options, VhostFrontend frontend, Stream source, bool raw,
        long? total, bool expectEnd, TransferScope scope, ILogger logger)
    {
        var startedAt = DateTimeOffset.UtcNow;
        long start = Stopwatch.GetTimestamp();
        string name = options.Endpoint is Endpoint.File file ? file.Path : options.Endpoint.ToString();
        using var reader = new StateReader(source, name, raw, options.ComputeHash,
            bytes => options.Progress?.Invoke(bytes, total), scope.CancellationToken);
        reader.ReadHeader(DeviceStateKind.VhostUser);
        var digest = VhostTransferPipe.Run(frontend, VhostTransferDirection.Load, scope, channel =>
        {
            try
            {
                reader.CopyData(channel);
                var totals = reader.ReadRest(expectEnd);
                CheckExpected(options, name, totals.Sha256 ?? options.ExpectedSha256);
                return totals;
            }
            catch (Exception e) when (!channel.IsCauseOf(e))
            {
                // Gone before the channel ends: the back-end must not take half a state for a whole one.
                frontend.Dispose();
                LogPartialLoad(logger, options.SocketPath);
                throw;
            }
        });
        var duration = Stopwatch.GetElapsedTime(start);
        TransferMetrics.Record("vhost-user", "load", digest.Bytes, duration);
        return new VhostStateTransfer
        {
            Device = frontend.Peer.ToString(),
            Direction = VhostTransferDirection.Load,
            SocketPath = options.SocketPath,
            Bytes = digest.Bytes,
            Chunks = digest.Chunks,
            Sha256 = digest.Sha256,
            Checked = true,
            StartedAt = startedAt.LocalDateTime,
            Duration = duration,
        };
    }

    private static void CheckExpected(VhostTransferOptions options, string name, string? actual)
    {
        if (options.ExpectedSha256 is { } expected && !string.Equals(expected, actual, StringComparison.OrdinalIgnoreCase))
        {
            throw new StateFileException(StateFileError.DigestMismatch,
                $"'{name}' is not the expected state: its SHA-256 is {actual}, expected {expected}.")
            { Target = name };
        }
    }

    [LoggerMessage(EventId = 4, Level = LogLevel.Information, Message = "listening on {Endpoint}")]
    private static partial void LogListening(ILogger logger, Endpoint endpoint);

    [LoggerMessage(EventId = 2, Level = LogLevel.Warning,
        Message = "The back-end at '{SocketPath}' got part of a state and was disconnected; start it anew before the next try.")]
    private static partial void LogPartialLoad(ILogger logger, string socketPath);
}
