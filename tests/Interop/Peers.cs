using MigrationOps.Tools;

namespace MigrationOps.Interop.Tests;

/// <summary>Where the real peers are: in the folder that install-peers.sh fills, else on PATH.</summary>
internal static class Peers
{
    private const string Remedy = "Install the peers with tests/Interop/install-peers.sh.";

    internal static string Root { get; } = Environment.GetEnvironmentVariable("MIGRATIONOPS_PEERS")
        ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache/migrationops/peers");

    private static readonly Lazy<PowerShellCommand> Found = new(()
        => PowerShellCommand.Find(out string reason) ?? throw new InvalidOperationException(reason));

    /// <summary>A PowerShell that runs the module. It is never missing: it is restored when it is not installed.</summary>
    internal static PowerShellCommand PowerShell => Found.Value;

    /// <summary>The program's path; skips the test with the reason and the remedy if it is not there.</summary>
    internal static string Require(string name)
    {
        string? path = Find(name);
        Assert.SkipWhen(path is null, $"{name} is not installed. {Remedy}");
        return path!;
    }

    internal static string? Find(string name)
    {
        string own = Path.Combine(Root, "bin", name);
        if (File.Exists(own))
        {
            return own;
        }

        return (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
            .Append("/usr/libexec").Append("/usr/lib/qemu")
            .Select(directory => Path.Combine(directory, name))
            .FirstOrDefault(File.Exists);
    }

    /// <summary>A file that install-peers.sh unpacked, such as <c>share/qemu-scripts/analyze-migration.py</c>.</summary>
    internal static string RequireFile(string relativePath)
    {
        string path = Path.Combine(Root, relativePath);
        Assert.SkipUnless(File.Exists(path), $"{relativePath} is not installed. {Remedy}");
        return path;
    }
}
