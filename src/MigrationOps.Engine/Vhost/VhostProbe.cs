using System.Diagnostics;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vhost;

/// <summary>Looks at a live back-end: what it is and whether its state can be moved.</summary>
internal static class VhostProbe
{
    /// <summary>Connects, negotiates and tells what the back-end says of itself.</summary>
    /// <remarks>Many back-ends end when their front-end leaves: virtiofsd does, and this is a front-end.</remarks>
    public static VhostBackendInfo Describe(string socketPath, TransferScope scope, ILogger? logger = null)
    {
        using var frontend = VhostFrontend.Connect(socketPath, scope, logger);
        frontend.Negotiate();
        return new VhostBackendInfo
        {
            SocketPath = socketPath,
            Peer = frontend.Peer.ToString(),
            PeerName = frontend.Peer.Name,
            PeerPid = frontend.Peer.Pid,
            PeerUid = frontend.Peer.Uid,
            DeviceState = frontend.SupportsDeviceState,
            Queues = frontend.GetQueueCount(),
            Features = VhostFeatures.NamesOfFeatures(frontend.Features),
            ProtocolFeatures = VhostFeatures.NamesOfProtocolFeatures(frontend.ProtocolFeatures),
        };
    }

    /// <summary>Checks one thing after the other; the first that fails ends the report.</summary>
    /// <param name="socketPath">The back-end's socket.</param>
    /// <param name="roundTrip">True to save the state (and drop it) and to ask the back-end for its check. Some back-ends
    /// end after a save: passt does.</param>
    /// <param name="scope">Deadline of every wait, and cancellation.</param>
    /// <param name="logger">Gets the conversation; null for none.</param>
    public static DeviceStateReport Test(string socketPath, bool roundTrip, TransferScope scope, ILogger? logger = null)
    {
        var checks = new List<DeviceStateCheck>();
        string current = "Connect";
        VhostFrontend? frontend = null;
        try
        {
            frontend = VhostFrontend.Connect(socketPath, scope, logger);
            Pass(frontend.Peer.ToString());

            current = "Negotiation";
            frontend.Negotiate();
            Pass($"features {string.Join(", ", VhostFeatures.NamesOfFeatures(frontend.Features))}; "
                + $"protocol features {string.Join(", ", VhostFeatures.NamesOfProtocolFeatures(frontend.ProtocolFeatures))}");

            current = "DeviceStateFeature";
            frontend.RequireDeviceState();
            Pass("protocol feature bit 19 is offered");
            if (roundTrip)
            {
                SaveAndCheck(frontend);
            }
        }
        catch (MigrationOpsException e)
        {
            checks.Add(DeviceStateCheck.FromFailure(e is VhostException { Reason: VhostError.CheckFailed } ? "BackendCheck" : current, e));
        }
        finally
        {
            frontend?.Dispose();
        }

        return new DeviceStateReport(socketPath, checks);

        void Pass(string detail) => checks.Add(new DeviceStateCheck(current, true, detail));

        void SaveAndCheck(VhostFrontend negotiated)
        {
            current = "Save";
            long start = Stopwatch.GetTimestamp();
            using var writer = new StateWriter(Stream.Null, DeviceStateKind.VhostUser, raw: true, computeHash: true,
                cancellationToken: scope.CancellationToken);
            var digest = VhostTransferPipe.Run(negotiated, VhostTransferDirection.Save, scope, channel =>
            {
                writer.WriteToEnd(channel);
                var totals = writer.EndData();
                Pass($"{totals.Bytes:N0} bytes in {Stopwatch.GetElapsedTime(start).TotalMilliseconds:0.#} ms");
                current = "BackendCheck";
                return totals;
            });
            Pass($"the back-end reports success; SHA-256 {digest.Sha256}");
        }
    }
}
