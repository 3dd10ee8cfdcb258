namespace MigrationOps;

/// <summary>One thing that was looked at, and what came out.</summary>
/// <param name="Name">Stable name of the check.</param>
/// <param name="Passed">True if it is as it must be.</param>
/// <param name="Detail">What was found.</param>
/// <param name="RecommendedAction">What to do about a failed check; empty for a passed one.</param>
public sealed record DeviceStateCheck(string Name, bool Passed, string Detail, string RecommendedAction = "")
{
    /// <summary>The check that a failure stands for.</summary>
    public static DeviceStateCheck FromFailure(string name, MigrationOpsException failure)
    {
        ArgumentNullException.ThrowIfNull(failure);
        return new DeviceStateCheck(name, false, failure.Message, failure.RecommendedAction);
    }

    /// <summary>A line for logs and for the console.</summary>
    public override string ToString() => $"{(Passed ? "passed" : "FAILED")} {Name}: {Detail}";
}

/// <summary>The outcome of a test: passed as a whole only if every check passed.</summary>
public sealed record DeviceStateReport
{
    /// <summary>Creates a report.</summary>
    /// <param name="target">What was tested: a path, a socket, a device.</param>
    /// <param name="checks">What was looked at, in that order; at least one.</param>
    public DeviceStateReport(string target, IEnumerable<DeviceStateCheck> checks)
    {
        Target = target;
        Checks = [.. checks];
    }

    /// <summary>What was tested.</summary>
    public string Target { get; }

    /// <summary>True if there are checks and all of them passed.</summary>
    public bool Passed => Checks.Length > 0 && Checks.All(check => check.Passed);

    /// <summary>What was looked at.</summary>
    public DeviceStateCheck[] Checks { get; }

    /// <summary>A line for logs and for the console.</summary>
    public override string ToString() => $"{Target}: {(Passed ? "passed" : "FAILED")} ({Checks.Count(c => c.Passed)} of {Checks.Length} checks)";
}
