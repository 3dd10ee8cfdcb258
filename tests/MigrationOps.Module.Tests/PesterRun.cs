using System.Reflection;
using System.Text.Json;

namespace MigrationOps.Module.Tests;

/// <summary>One Pester test and how it ended.</summary>
internal sealed record PesterTest(string File, string Name, string Result, double Duration, string Error);

/// <summary>A block or file of the suite that broke outside of its tests.</summary>
internal sealed record BrokenBlock(string Name, string Error);

/// <summary>One run of the Pester suite in a fresh pwsh; the first who asks starts it.</summary>
internal static class PesterRun
{
    // The suite takes less than a minute; a run that hangs is a failure and not a reason to wait for ever.
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(10);

    private static readonly Lazy<Outcome> Once = new(Run);

    /// <summary>Why the suite cannot run here, and what to do about it; null if it ran.</summary>
    internal static string? Obstacle => PowerShell.Obstacle;

    /// <summary>What came out.</summary>
    internal static Outcome Result => Once.Value;

    /// <summary>The files of the suite, sorted by name.</summary>
    internal static IEnumerable<string> Files => Directory.EnumerateFiles(Setting("PesterFolder"), "*.Tests.ps1")
        .Select(path => Path.GetFileName(path)).Order();

    internal sealed record Outcome(PesterTest[] Tests, BrokenBlock[] Broken);

    private static Outcome Run()
    {
        string folder = Setting("PesterFolder");
        string result = Path.Combine(Path.GetTempPath(), $"migrationops-pester-{Guid.NewGuid():N}.json");
        try
        {
            var (exitCode, output) = PowerShell.Run(Limit, ("MIGRATIONOPS_MODULE", Setting("ModulePath")),
                "-NoProfile", "-NonInteractive", "-File", Path.Combine(folder, "Invoke-Suite.ps1"), "-ResultPath", result);
            return File.Exists(result)
                ? JsonSerializer.Deserialize<Outcome>(File.ReadAllText(result), JsonSerializerOptions.Web)!
                : throw new InvalidOperationException($"The Pester run ended with {exitCode} and no result:\n{output}");
        }
        finally
        {
            File.Delete(result);
        }
    }

    private static string Setting(string name) => typeof(PesterRun).Assembly
        .GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == name).Value!;
}
