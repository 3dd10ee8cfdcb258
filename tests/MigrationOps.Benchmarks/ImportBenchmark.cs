using System.Diagnostics;
using System.Globalization;
using MigrationOps.Engine.Vhost;
using MigrationOps.Tools;

namespace MigrationOps.Benchmarks;

/// <summary>What the module costs a new PowerShell: Import-Module against a bare one, and the first save that is made in it.</summary>
/// <remarks>It measures what lies in output/, so build that as a release first: <c>./build.ps1</c>.</remarks>
internal sealed class ImportBenchmark : TransferBenchmark
{
    private const int FirstSaves = 9;

    private readonly Lazy<PowerShellCommand> _pwsh = new(() => PowerShellCommand.Find(out string reason) ?? throw new InvalidOperationException(reason));

    internal override string Name => "import";

    internal override string Description => "Import-Module against a bare pwsh, processor time beside it, and the first Start-VhostStateSave";

    internal override void Run(BenchmarkReport report)
    {
        string module = FindModule();
        bool isReady = Directory.Exists(Path.Combine(Path.GetDirectoryName(module)!, "bin/x64"));
        Console.WriteLine($"  {module}, {(isReady ? "compiled ahead of time" : "not compiled ahead of time; ./build.ps1 does that")}");
        report.CompareExcess("Import-Module", TimeSpan.FromMilliseconds(150), () => Time($"Import-Module '{module}'"), () => Time("$null"));
        report.CompareExcess("the same, processor time", TimeSpan.FromMilliseconds(150), () => ProcessorTime($"Import-Module '{module}'"), () => ProcessorTime("$null"));
        FirstSave(report, module);
    }

    private void FirstSave(BenchmarkReport report, string module)
    {
        using var folder = new TmpfsFolder();
        string socket = folder.File("b.sock");
        using var backend = VhostBackend.Start(new VhostBackendOptions { SocketPath = socket, State = new PatternBackendState(4096) });
        string script = $$"""
            Import-Module '{{module}}'
            $clock = [Diagnostics.Stopwatch]::StartNew()
            $null = Start-VhostStateSave -SocketPath '{{socket}}' -Path "{{folder.Path}}/$PID.state"
            $clock.Elapsed.TotalMilliseconds.ToString([cultureinfo]::InvariantCulture)
            """;
        report.Figure("the first save, of 4 KiB", BenchmarkReport.Median(Enumerable.Range(0, FirstSaves)
            .Select(_ => double.Parse(Run(script), CultureInfo.InvariantCulture))), "ms", 50);
    }

    private TimeSpan Time(string script) => BenchmarkReport.Time(() => Run(script));

    // Of all threads, those that compile in the background too.
    private TimeSpan ProcessorTime(string script) => TimeSpan.FromMilliseconds(double.Parse(
        Run(script + "; [Environment]::CpuUsage.TotalTime.TotalMilliseconds.ToString([cultureinfo]::InvariantCulture)"), CultureInfo.InvariantCulture));

    private string Run(string script)
    {
        var start = _pwsh.Value.CreateStartInfo("-NoProfile", "-NonInteractive", "-Command", script);
        start.RedirectStandardOutput = true;
        start.RedirectStandardInput = true;
        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? output : throw new InvalidOperationException($"pwsh ended with {process.ExitCode}: {output}");
    }

    private static string FindModule()
    {
        string root = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(root, "MigrationOps.sln")))
        {
            root = Path.GetDirectoryName(root) ?? throw new InvalidOperationException("The repository was not found above the benchmarks.");
        }

        return Directory.Exists(Path.Combine(root, "output/MigrationOps"))
            ? Path.Combine(Directory.GetDirectories(Path.Combine(root, "output/MigrationOps")).Single(), "MigrationOps.psd1")
            : throw new InvalidOperationException("There is no built module. Run: ./build.ps1");
    }
}
