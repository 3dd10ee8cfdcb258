namespace MigrationOps.Interop.Tests;

/// <summary>Where the real peers are: in the folder that install-peers.sh fills, else on PATH.</summary>
internal static class Peers
{
    private const string Remedy = "Install the peers with tests/Interop/install-peers.sh.";

    private static readonly SortedSet<string> Missing = new(StringComparer.Ordinal);
    private static int _notTried;

    internal static string Root { get; } = Environment.GetEnvironmentVariable("MIGRATIONOPS_PEERS")
        ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache/migrationops/peers");

    /// <summary>In one line, which peers were missed by how many tests; empty if none was.</summary>
    internal static string Summary
    {
        get
        {
            lock (Missing)
            {
                return _notTried == 0 ? "" : $"{_notTried} tests need {string.Join(", ", Missing)}, which this machine lacks";
            }
        }
    }

    /// <summary>The program's path; skips the test with the reason and the remedy if it is not there.</summary>
    internal static string Require(string name)
    {
        string? path = Find(name);
        SkipWithout(path is not null, name);
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
            .Append("/usr/libexec").Append("/usr/lib/qemu").Append("/usr/sbin")
            .Select(directory => Path.Combine(directory, name))
            .FirstOrDefault(File.Exists);
    }

    /// <summary>A file that install-peers.sh unpacked, such as <c>share/qemu-scripts/analyze-migration.py</c>.</summary>
    internal static string RequireFile(string relativePath)
    {
        string path = Path.Combine(Root, relativePath);
        SkipWithout(File.Exists(path), relativePath);
        return path;
    }

    private static void SkipWithout(bool there, string name)
    {
        if (!there)
        {
            lock (Missing)
            {
                Missing.Add(name);
                _notTried++;
            }

            Assert.Skip($"{name} is not installed. {Remedy}");
        }
    }
}
