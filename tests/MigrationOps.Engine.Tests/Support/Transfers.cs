using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>Saves and loads of the embedded back-end's state.</summary>
internal static class Transfers
{
    internal static readonly TimeSpan Short = TimeSpan.FromMilliseconds(600);

    internal static VhostBackend Backend(string path, BackendState state, VhostBackendFault? fault = null, bool ownDescriptor = false)
        => VhostBackend.Start(new VhostBackendOptions
        {
            SocketPath = path,
            State = state,
            OwnDescriptor = ownDescriptor,
            Fault = fault ?? VhostBackendFault.None,
        });

    internal static VhostTransferOptions Options(string socket, Endpoint endpoint, bool raw = false, bool hash = true, string? expected = null)
        => new() { SocketPath = socket, Endpoint = endpoint, Raw = raw, ComputeHash = hash, ExpectedSha256 = expected };

    internal static VhostStateTransfer Save(string socket, Endpoint endpoint, TimeSpan? timeout = null, bool raw = false,
        bool hash = true, CancellationToken cancellationToken = default)
    {
        using var scope = new TransferScope(timeout ?? Waiting.Patience, cancellationToken);
        return VhostStateSaver.Save(Options(socket, endpoint, raw, hash), scope);
    }

    internal static VhostStateTransfer Load(string socket, Endpoint endpoint, TimeSpan? timeout = null, bool raw = false,
        string? expected = null, CancellationToken cancellationToken = default)
    {
        using var scope = new TransferScope(timeout ?? Waiting.Patience, cancellationToken);
        return VhostStateLoader.Load(Options(socket, endpoint, raw, expected: expected), scope);
    }

    /// <summary>A transfer in a direction between a back-end and a file.</summary>
    internal static VhostStateTransfer Run(VhostTransferDirection direction, string socket, string file, TimeSpan? timeout = null,
        CancellationToken cancellationToken = default)
        => direction == VhostTransferDirection.Save
            ? Save(socket, new Endpoint.File(file), timeout, cancellationToken: cancellationToken)
            : Load(socket, new Endpoint.File(file), timeout, cancellationToken: cancellationToken);

    /// <summary>Loads from a connection; the action gets the endpoint that is listened on.</summary>
    internal static Task<VhostStateTransfer> Receive(VhostTransferOptions options, TransferScope scope, out Endpoint listening)
    {
        var ready = new TaskCompletionSource<Endpoint>(TaskCreationOptions.RunContinuationsAsynchronously);
        var task = Waiting.OnThread(() =>
        {
            try
            {
                return VhostStateLoader.Load(options, scope, listening: ready.SetResult);
            }
            catch (Exception e)
            {
                ready.TrySetException(e);
                throw;
            }
        });
        listening = ready.Task.Result("the listener");
        return task;
    }
}
