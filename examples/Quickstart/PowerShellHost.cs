using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;

namespace MigrationOps.Quickstart;

/// <summary>A PowerShell that can run the module: pwsh on PATH, or a local dotnet tool.</summary>
internal sealed class PowerShellHost
{
    private static readonly Version Needed = new(7, 6);

    private readonly string[] _command;

    private PowerShellHost(string[] command, string version)
    {
        _command = command;
        Description = $"{string.Join(' ', command)} {version}";
    }

    internal string Description { get; }

    /// <summary>Finds one that is new enough.</summary>
    /// <param name="reason">Why there is none.</param>
    internal static PowerShellHost? Find(out string reason)
    {
        reason = "pwsh is not on PATH (see README.md for how to get PowerShell 7.6)";
        foreach (string[] command in new string[][] { ["pwsh"], ["dotnet", "tool", "run", "pwsh", "--"] })
        {
            if (Ask(command) is not { } version)
            {
                continue;
            }

            if (Version.TryParse(version.Split('-')[0], out var parsed) && parsed >= Needed)
            {
                return new PowerShellHost(command, version);
            }

            reason = $"{string.Join(' ', command)} is version {version}, the module needs {Needed}";
        }

        return null;
    }

    internal int Run(string script, string module, string folder, long size)
    {
        using var process = Process.Start(Command(_command, redirect: false, "-NoProfile", "-File", script, "-Module", module,
            "-Folder", folder, "-Size", size.ToString(CultureInfo.InvariantCulture)))!;
        process.WaitForExit();
        return process.ExitCode;
    }

    private static string? Ask(string[] command)
    {
        try
        {
            using var process = Process.Start(Command(command, redirect: true,
                "-NoProfile", "-NonInteractive", "-Command", "$PSVersionTable.PSVersion.ToString()"))!;
            string output = process.StandardOutput.ReadToEnd().Trim();
            process.WaitForExit();
            return process.ExitCode == 0 ? output : null;
        }
        catch (Win32Exception)
        {
            // There is no such program.
            return null;
        }
    }

    private static ProcessStartInfo Command(string[] command, bool redirect, params string[] arguments)
        => new(command[0], [.. command[1..], .. arguments])
        {
            RedirectStandardOutput = redirect,
            RedirectStandardError = redirect,
        };
}
