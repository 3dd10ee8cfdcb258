namespace MigrationOps.Engine.Preflight;

/// <summary>
/// A named check: a pure function of the facts. It does no I/O, so that a test needs no QEMU; a fact that is missing gives Unknown, never
/// Passed.
/// </summary>
/// <param name="Name">Its name, which stays the same.</param>
/// <param name="Group">What it looks at.</param>
/// <param name="Assess">What it says of the facts; null if there is nothing to check, as of two QEMUs when only one is there.</param>
internal sealed record PreflightCheck(string Name, QemuCheckGroup Group, Func<PreflightFacts, Finding?> Assess)
{
    /// <summary>The check's line in the report; null if there is none.</summary>
    internal QemuMigrationCheck? Run(PreflightFacts facts)
    {
        if (Assess(facts) is not { } finding)
        {
            return null;
        }

        return new QemuMigrationCheck
        {
            Name = Name,
            Group = Group,
            Status = finding.Status,
            Source = finding.Source,
            Target = finding.Target,
            Detail = finding.Detail,
            RecommendedAction = finding.Action,
            Data = [.. finding.Data.OrderByDescending(difference => difference.Status)],
        };
    }
}
