using System.Diagnostics;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Tools;

namespace MigrationOps.Interop.Tests;

/// <summary>A PowerShell of its own that runs a script with the built module.</summary>
internal static class ModuleProcess
{
    private static readonly Lazy<PowerShellCommand> Found = new(()
        => PowerShellCommand.Find(out string reason) ?? throw new InvalidOperationException(reason));

    /// <summary>The manifest of the built module.</summary>
    internal static string Module
        => Path.Combine(Directory.GetDirectories(Path.Combine(Repository.Root, "output/MigrationOps")).Single(), "MigrationOps.psd1");

    /// <summary>Starts it. PowerShell is never missing: it is restored when it is not installed.</summary>
    internal static PeerProcess Start(string script) => new(StartInfo(script));

    /// <summary>How it is started.</summary>
    internal static ProcessStartInfo StartInfo(string script) => Found.Value.CreateStartInfo("-NoProfile", "-NonInteractive",
        "-Command", $"$ErrorActionPreference = 'Stop'; Import-Module '{Module}'; {script}");
}
