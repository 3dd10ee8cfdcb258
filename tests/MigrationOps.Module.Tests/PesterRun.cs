using System.Diagnostics;
using System.Reflection;
using System.Text.Json;
using MigrationOps.Tools;

namespace MigrationOps.Module.Tests;

/// <summary>One Pester test and how it ended.</summary>
internal sealed record PesterTest(string File, string Name, string Result, double Duration, string Error);

/// <summary>A block or file of the suite that broke outside of its tests.</summary>
internal sealed record BrokenBlock(string Name, string Error);

/// <summary>
/// One run of the Pester suite in a fresh pwsh; the first who asks starts it. PowerShell and Pester are restored if they are
/// not there, so a run without them is a failure and not a reason to skip anything.
/// </summary>
internal static class PesterRun
{
    // The suite takes a minute or two where it is alone; a run that hangs is a failure and not a reason to wait for ever.
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(30);

    private static readonly Lazy<Outcome> Once = new(Run);

    /// <summary>What came out.</summary>
    internal static Outcome Result => Once.Value;

    /// <summary>The files of the suite, sorted by name.</summary>
    internal static IEnumerable<string> Files => Directory.EnumerateFiles(Setting("PesterFolder"), "*.Tests.ps1")
        .Select(path => Path.GetFileName(path)).Order();

    /// <summary>The manifest of the Pester that was restored: the version in MIGRATIONOPS_PESTER, else the first one.</summary>
    internal static string PesterManifest
    {
        get
        {
            string[] versions = Setting("PesterVersions").Split(';');
            string version = Environment.GetEnvironmentVariable("MIGRATIONOPS_PESTER") is { Length: > 0 } chosen ? chosen : versions[0];
            return versions.Contains(version)
                ? Path.Combine(Setting("PackageRoot"), "pester", version, "tools", "Pester.psd1")
                : throw new InvalidOperationException($"MIGRATIONOPS_PESTER: expected {string.Join(" or ", versions)}, found '{version}'.");
        }
    }

    internal sealed record Outcome(PesterTest[] Tests, BrokenBlock[] Broken, string Pester);

    private static Outcome Run()
    {
        var pwsh = PowerShellCommand.Find(out string reason) ?? throw new InvalidOperationException(reason);
        string folder = Setting("PesterFolder");
        string result = Path.Combine(Path.GetTempPath(), $"migrationops-pester-{Guid.NewGuid():N}.json");
        var start = pwsh.CreateStartInfo("-NoProfile", "-NonInteractive", "-File", Path.Combine(folder, "Invoke-Suite.ps1"),
            "-Pester", PesterManifest, "-ResultPath", result);
        start.WorkingDirectory = AppContext.BaseDirectory;
        start.RedirectStandardInput = start.RedirectStandardOutput = start.RedirectStandardError = true;
        start.Environment["NO_COLOR"] = "1";
        start.Environment["MIGRATIONOPS_MODULE"] = Setting("ModulePath");
        try
        {
            using var process = Process.Start(start)!;
            process.StandardInput.Close();
            var output = process.StandardOutput.ReadToEndAsync();
            var error = process.StandardError.ReadToEndAsync();
            bool ended = process.WaitForExit(Limit);
            if (!ended)
            {
                process.Kill(entireProcessTree: true);
                process.WaitForExit();
            }

            return ended && File.Exists(result)
                ? JsonSerializer.Deserialize<Outcome>(File.ReadAllText(result), JsonSerializerOptions.Web)!
                : throw new InvalidOperationException((ended
                    ? $"The Pester run ended with {process.ExitCode} and no result:" : $"The Pester run did not end within {Limit}:")
                    + $"\n{output.Result}{error.Result}");
        }
        finally
        {
            File.Delete(result);
        }
    }

    private static string Setting(string name) => typeof(PesterRun).Assembly
        .GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == name).Value!;
}
