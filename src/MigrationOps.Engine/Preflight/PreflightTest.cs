namespace MigrationOps.Engine.Preflight;

/// <summary>The pre-flight: facts in, report out.</summary>
internal static class PreflightTest
{
    /// <summary>Every check, in the order of the report.</summary>
    internal static IReadOnlyList<PreflightCheck> Checks { get; } =
    [
        .. TruthChecks.All, .. MachineChecks.All, .. CpuChecks.All, .. MemoryChecks.All, .. DeviceChecks.All, .. VirtioChecks.All, .. StorageChecks.All, .. MigrationChecks.All, .. TransportChecks.All,
        .. HostChecks.All, .. ManagerChecks.All, .. EstimateChecks.All,
    ];

    /// <summary>Lets every check judge the facts.</summary>
    internal static QemuMigrationReport Assess(PreflightFacts facts, DateTime takenAt, TimeSpan duration) => new()
    {
        VM = facts.Source.VMName,
        Uuid = TruthChecks.UuidOf(facts.Source),
        Source = facts.Source.Name,
        Target = facts.TargetName,
        TargetIsHost = facts.Target is null && facts.TargetFailure is null,
        SourceProcessId = facts.Source.Process?.Id ?? 0,
        TargetProcessId = facts.Target?.Process?.Id ?? 0,
        SourceVersion = facts.Source.Version.Number,
        TargetVersion = facts.Target?.Version.Number ?? facts.Host?.Version ?? "",
        Mode = facts.Options.Mode,
        Channels = facts.Options.Channels,
        MaxBandwidth = facts.Options.MaxBandwidth,
        DowntimeLimit = facts.Options.DowntimeLimit,
        TakenAt = takenAt,
        Duration = duration,
        Checks = [.. Checks.Where(check => !IsSkipped(check, facts.Options)).Select(check => check.Run(facts)).OfType<QemuMigrationCheck>()],
        Estimate = EstimateChecks.Estimate(facts),
    };

    private static bool IsSkipped(PreflightCheck check, PreflightOptions options)
        => options.Skip.Any(pattern => System.IO.Enumeration.FileSystemName.MatchesSimpleExpression(pattern, check.Name, ignoreCase: true));
}
