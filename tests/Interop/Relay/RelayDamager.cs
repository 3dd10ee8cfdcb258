using MigrationOps.Engine.Relay;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Relay;

/// <summary>A second relay, before the one of a pair: what it damages, that one has to find.</summary>
internal sealed class RelayDamager(RelayedPair pair, params RelayFault[] faults) : IDisposable
{
    private readonly MigrationRelay _relay = MigrationRelay.Start(new RelayOptions
    {
        Listen = Endpoint.Parse($"unix:{pair.Folder.File("damager")}"),
        Target = pair.Relay.Endpoint,
        Faults = faults,
    });

    internal RelayStatus Status => _relay.Status;

    internal void Migrate() => pair.Source.Migrate(_relay.Endpoint.ToString());

    public void Dispose() => _relay.Dispose();
}
