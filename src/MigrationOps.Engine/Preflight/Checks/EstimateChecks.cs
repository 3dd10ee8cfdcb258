using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>How long it will take, and whether it ends.</summary>
internal static class EstimateChecks
{
    private const string Measure = "Measure the VM's dirty rate while it does its usual work, and give it.";

    internal static IEnumerable<PreflightCheck> All =>
    [
        new("Estimate", QemuCheckGroup.Estimate, facts => Estimate(facts) is { } estimate ? Finding.Info(estimate.ToString()) : null),
        new("Converges", QemuCheckGroup.Estimate, Converges),
    ];

    /// <summary>What is foretold; null for a migration that copies no memory, and where not even the memory or the bandwidth is known.</summary>
    internal static QemuMigrationEstimate? Estimate(PreflightFacts facts)
    {
        var parameters = facts.Source["query-migrate-parameters"];
        long? bandwidth = facts.Options.MaxBandwidth ?? parameters?.Number("max-bandwidth");
        var limit = facts.Options.DowntimeLimit ?? (parameters?.Number("downtime-limit") is { } milliseconds ? TimeSpan.FromMilliseconds(milliseconds) : null);
        if (facts.Options.Mode is QemuMigrationMode.CprReboot or QemuMigrationMode.CprTransfer || MemoryOf(facts.Source) is not { } memory || bandwidth is not > 0 || limit is not { } known)
        {
            return null;
        }

        return MigrationEstimator.Estimate(new MigrationEstimateInput
        {
            RamBytes = memory,
            UsedBytes = facts.Source.Process?.ResidentBytes is { } resident ? Math.Min(resident, memory) : null,
            DirtyRate = facts.Options.DirtyRate,
            MaxBandwidth = bandwidth.Value,
            SwitchoverBandwidth = parameters?.Number("avail-switchover-bandwidth") ?? 0,
            DowntimeLimit = known,
            Queues = facts.Source["x-query-virtio"]?.Items().Count() ?? 0,
            CanPostcopy = facts.Source.Objects?.Any(found => found.Type.StartsWith("vfio-", StringComparison.Ordinal)) != true,
        });
    }

    private static long? MemoryOf(QemuFacts source)
        => RamBlockFacts.Of(source)?.Sum(block => block.Used) is { } blocks ? blocks
            : source["query-memory-size-summary"] is { } summary && summary.Number("base-memory") is { } memory ? memory + (summary.Number("plugged-memory") ?? 0) : null;

    private static Finding? Converges(PreflightFacts facts) => Estimate(facts) switch
    {
        null => null,
        { DirtyBytesPerSecond: null } => Finding.Unknown("The VM's dirty rate was not measured, so that it cannot be said whether the migration ends.", Measure),
        { Converges: true } => Finding.Passed(),
        // It ends whatever the guest writes.
        _ when facts.Options.Mode == QemuMigrationMode.Postcopy => Finding.Passed(),
        { } estimate => Finding.Warning($"The migration {(estimate.Converges == false ? "does" : "may")} not converge: the guest writes too fast for its bandwidth and downtime limit.", string.Join(" Or: ", estimate.Advice)),
    };
}
