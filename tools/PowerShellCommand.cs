using System.ComponentModel;
using System.Diagnostics;

namespace MigrationOps.Tools;

/// <summary>
/// How to start a PowerShell that can run the module: a <c>pwsh</c> on PATH that is new enough, else the .NET tool of
/// .config/dotnet-tools.json, which is restored when it is needed. Compiled into everything that starts one.
/// </summary>
/// <remarks>
/// A PowerShell that came as a .NET tool has a shim: "pwsh" or "dotnet tool run pwsh" starts "dotnet pwsh.dll" and waits. A
/// signal to the shim does not reach PowerShell (SIGINT is ignored; SIGTERM, SIGHUP and SIGKILL end the shim and leave
/// PowerShell running). So the shim is asked once where PowerShell is and then left out: <see cref="Program"/> is the
/// process that does the work. tools/Get-PowerShellCommand.ps1 is the same for scripts.
/// </remarks>
internal sealed class PowerShellCommand
{
    private const string Manifest = ".config/dotnet-tools.json";

    // Version, the running program, and the folder of PowerShell.
    private const string Question = "$PSVersionTable.PSVersion.ToString(); [Environment]::ProcessPath; $PSHOME";

    private static readonly Version Needed = new(7, 6);
    private static readonly TimeSpan ProbeLimit = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan RestoreLimit = TimeSpan.FromMinutes(5);

    private PowerShellCommand(string program, string[] arguments, string version)
    {
        Program = program;
        Arguments = arguments;
        Version = version;
    }

    /// <summary>The program to start.</summary>
    internal string Program { get; }

    /// <summary>What comes before PowerShell's own arguments.</summary>
    internal string[] Arguments { get; }

    /// <summary>The version, as PowerShell says it.</summary>
    internal string Version { get; }

    /// <summary>The command, with its version.</summary>
    public override string ToString() => $"{string.Join(' ', Arguments.Prepend(Program))}, version {Version}";

    /// <summary>Finds one that is new enough; restores the tool if there is no other.</summary>
    /// <param name="searchPath">The folders to look into, as PATH has them.</param>
    /// <param name="reason">In one line, why there is none and what to do about it.</param>
    internal static PowerShellCommand? Find(string? searchPath, out string reason)
    {
        foreach (string program in (searchPath ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries)
            .Select(folder => Path.Combine(folder, "pwsh")).Where(File.Exists))
        {
            if (Probe([program], Environment.CurrentDirectory) is { } found)
            {
                reason = "";
                return found;
            }
        }

        return FindTool(out reason);
    }

    /// <summary>Finds one on this process's PATH, else the tool.</summary>
    internal static PowerShellCommand? Find(out string reason) => Find(Environment.GetEnvironmentVariable("PATH"), out reason);

    /// <summary>What starts this PowerShell with the given arguments.</summary>
    internal ProcessStartInfo CreateStartInfo(params IEnumerable<string> arguments) => new(Program, [.. Arguments, .. arguments]);

    private static PowerShellCommand? FindTool(out string reason)
    {
        const string remedy = "With a network, run: dotnet tool restore";
        if (FindFolderWithManifest() is not { } root)
        {
            reason = $"PowerShell {Needed} is not on PATH. Run: dotnet tool install --global PowerShell";
            return null;
        }

        // Test projects start at the same time, and two restores of one manifest write the same files.
        using var turn = new Mutex(initiallyOwned: false, "migrationops-tool-restore");
        try
        {
            turn.WaitOne();
        }
        catch (AbandonedMutexException)
        {
            // Whoever had it was killed; the turn is ours, and a restore mends what a restore left half done.
        }

        try
        {
            var restore = new ProcessStartInfo("dotnet", ["tool", "restore", "--tool-manifest", Path.Combine(root, Manifest)]);
            var (exitCode, output) = Run(restore, root, RestoreLimit);
            if (exitCode != 0)
            {
                string[] lines = output.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
                reason = $"PowerShell {Needed} is not on PATH, and its .NET tool could not be restored "
                    + $"({lines.LastOrDefault() ?? $"exit code {exitCode}"}). {remedy}";
                return null;
            }

            var found = Probe(["dotnet", "tool", "run", "pwsh", "--"], root);
            reason = found is null ? $"The .NET tool of {Manifest} does not start or is older than {Needed}. {remedy}" : "";
            return found;
        }
        finally
        {
            turn.ReleaseMutex();
        }
    }

    // Null if it does not start or is too old.
    private static PowerShellCommand? Probe(string[] command, string folder)
    {
        var start = new ProcessStartInfo(command[0], [.. command[1..], "-NoProfile", "-NonInteractive", "-Command", Question]);
        var (exitCode, output) = Run(start, folder, ProbeLimit);
        string[] lines = output.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        if (exitCode != 0 || lines.Length < 3 || !System.Version.TryParse(lines[^3].Split('-')[0], out var version) || version < Needed)
        {
            return null;
        }

        string library = Path.Combine(lines[^1], "pwsh.dll");
        return Path.GetFileName(lines[^2]) == "dotnet" && File.Exists(library)
            ? new PowerShellCommand(lines[^2], [library], lines[^3])
            : new PowerShellCommand(command[0], command[1..], lines[^3]);
    }

    private static (int ExitCode, string Output) Run(ProcessStartInfo start, string folder, TimeSpan limit)
    {
        start.WorkingDirectory = folder;
        start.RedirectStandardInput = start.RedirectStandardOutput = start.RedirectStandardError = true;
        start.Environment["NO_COLOR"] = "1";
        start.Environment["DOTNET_NOLOGO"] = "1";
        start.Environment["DOTNET_CLI_UI_LANGUAGE"] = "en";
        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (Win32Exception e)
        {
            // There is a file of that name, but it is no program.
            return (-1, e.Message);
        }

        using (process)
        {
            process.StandardInput.Close();
            var output = process.StandardOutput.ReadToEndAsync();
            var error = process.StandardError.ReadToEndAsync();
            if (!process.WaitForExit(limit))
            {
                process.Kill(entireProcessTree: true);
                process.WaitForExit();
                return (-1, $"{start.FileName} did not end within {limit}.");
            }

            process.WaitForExit();
            return (process.ExitCode, process.ExitCode == 0 ? output.Result : output.Result + error.Result);
        }
    }

    private static string? FindFolderWithManifest()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, Manifest)))
        {
            folder = Path.GetDirectoryName(folder);
        }

        return folder;
    }
}
