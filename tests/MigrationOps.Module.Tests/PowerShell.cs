using System.Diagnostics;

namespace MigrationOps.Module.Tests;

/// <summary>The pwsh of this machine: on PATH, or the local .NET tool of the folder.</summary>
internal static class PowerShell
{
    private static readonly Version Needed = new(7, 6);
    private static readonly TimeSpan ProbeLimit = TimeSpan.FromMinutes(1);

    private static readonly string[]? Command = Find();

    /// <summary>Why nothing can be run with it, and the remedy; null if everything is there.</summary>
    internal static string? Obstacle { get; } = FindObstacle();

    /// <summary>Runs it to its end.</summary>
    /// <returns>Its exit code and everything that it printed.</returns>
    internal static (int ExitCode, string Output) Run(TimeSpan limit, (string Name, string Value) variable, params string[] arguments)
        => Start(Command!, limit, variable, arguments);

    private static string? FindObstacle()
    {
        if (Command is null)
        {
            return "PowerShell 7.6 is not installed. Install it with: dotnet tool install --global PowerShell";
        }

        var (_, output) = Start(Command, ProbeLimit, null, "-NoProfile", "-NonInteractive", "-Command",
            "\"$($PSVersionTable.PSVersion.Major).$($PSVersionTable.PSVersion.Minor)\";"
            + "(Get-Module Pester -ListAvailable | Where-Object { $_.Version.Major -eq 5 -and $_.Version -ge '5.3' }).Count");
        string[] lines = output.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        if (lines.Length != 2 || !Version.TryParse(lines[0], out var version) || version < Needed)
        {
            return $"PowerShell {Needed} is needed, pwsh says '{output.Trim()}'. Install it with: dotnet tool install --global PowerShell";
        }

        return lines[1] == "0"
            ? "Pester 5.3 or later is not installed. Install it with: pwsh -c 'Install-PSResource Pester -Version \"[5.3,6.0)\" -TrustRepository'"
            : null;
    }

    private static string[]? Find()
    {
        string? onPath = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
            .Select(directory => Path.Combine(directory, "pwsh")).FirstOrDefault(File.Exists);
        if (onPath is not null)
        {
            return [onPath];
        }

        string[] tool = ["dotnet", "tool", "run", "pwsh", "--"];
        return Start(tool, ProbeLimit, null, "-Version").ExitCode == 0 ? tool : null;
    }

    private static (int ExitCode, string Output) Start(string[] command, TimeSpan limit, (string Name, string Value)? variable,
        params string[] arguments)
    {
        var start = new ProcessStartInfo(command[0])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = AppContext.BaseDirectory,
            Environment = { ["NO_COLOR"] = "1" },
        };
        foreach (string argument in command.Skip(1).Concat(arguments))
        {
            start.ArgumentList.Add(argument);
        }

        if (variable is { } set)
        {
            start.Environment[set.Name] = set.Value;
        }

        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(limit))
        {
            process.Kill(entireProcessTree: true);
            process.WaitForExit();
            throw new TimeoutException($"pwsh did not end within {limit}:\n{output.Result}{error.Result}");
        }

        return (process.ExitCode, output.Result + error.Result);
    }
}
