using System.Diagnostics;
using System.Runtime.InteropServices;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Interop.Tests;
using MigrationOps.Tools;

namespace MigrationOps.Module.Tests;

/// <summary>Which PowerShell is used, and that a signal to it, or to the shim of a .NET tool, ends the work.</summary>
public sealed partial class PowerShellCommandTests : IDisposable
{
    private const int Interrupt = 2;
    private const int Kill = 9;
    private const int Terminate = 15;

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Without_a_pwsh_on_path_the_tool_is_restored_and_started_without_its_shim()
    {
        var tool = Find("");
        Assert.Equal("dotnet", Path.GetFileName(tool.Program));
        Assert.Equal("pwsh.dll", Path.GetFileName(Assert.Single(tool.Arguments)));
        using var process = new PeerProcess(tool.CreateStartInfo("-NoProfile", "-NonInteractive", "-Command", "$PID"));
        Assert.Equal(0, process.WaitForExit());
        Assert.Equal($"{process.Id}", process.Output.Trim());
    }

    [Fact]
    public void A_pwsh_on_path_that_is_the_shim_of_a_tool_is_left_out()
    {
        WriteProgram("pwsh", $"cd '{Repository.Root}' && exec dotnet tool run pwsh -- \"$@\"");
        Assert.Equal("pwsh.dll", Path.GetFileName(Assert.Single(Find(_folder.Path).Arguments)));
    }

    [Theory]
    [InlineData("7.6.0", true)]
    [InlineData("7.7.0-preview.1", true)]
    [InlineData("10.0.0", true)]
    [InlineData("7.5.9", false)]
    [InlineData("no version", false)]
    public void A_pwsh_on_path_that_is_new_enough_comes_before_the_tool(string version, bool taken)
    {
        WriteProgram("pwsh", $"echo '{version}'; echo /opt/pwsh; echo /opt");
        var found = Find(_folder.Path);
        Assert.Equal(taken, found.Program == _folder.File("pwsh"));
        Assert.NotEqual(taken, Path.GetFileName(found.Program) == "dotnet");
    }

    // A terminal's Ctrl-C goes to both, as one group; any other signal to whom it is sent.
    [Theory]
    [InlineData(Interrupt)]
    [InlineData(Terminate)]
    [InlineData(Kill)]
    public void A_powershell_with_the_module_does_not_outlive_the_shim_that_started_it(int signal)
    {
        string done = _folder.File("done"), pid = _folder.File("pid");
        var start = new ProcessStartInfo("setsid", ["env", "--default-signal=INT", "dotnet", "tool", "run", "pwsh", "--", "-NoProfile", "-NonInteractive", "-Command",
            $"Import-Module '{ModuleProcess.Module}'; try {{ $PID > '{pid}.new'; Move-Item '{pid}.new' '{pid}'; Start-Sleep 120 }} finally {{ 'done' > '{done}' }}"])
        {
            WorkingDirectory = Repository.Root,
        };
        using var command = new PeerProcess(start);
        command.WaitUntil(() => File.Exists(pid), "the module's import");
        using var worker = Process.GetProcessById(int.Parse(File.ReadAllText(pid)));
        int shim = ParentOf(worker.Id);
        Assert.NotEqual(command.Id, shim);
        Assert.Equal(0, SendSignal(signal == Interrupt ? -command.Id : shim, signal));
        Assert.True(worker.WaitForExit(TimeSpan.FromSeconds(60)), "PowerShell runs on without its shim.");
        Assert.True(File.Exists(done), "What is in finally did not run.");
        command.WaitForExit();
    }

    [Theory]
    [InlineData(Interrupt)]
    [InlineData(Terminate)]
    public void A_signal_to_the_quickstart_ends_its_powershell_and_leaves_nothing(int signal)
    {
        // So much state that it is at work for a while, unless it is ended.
        using var tour = new PeerProcess(Quickstart(["4000"]));
        string? folder = null;
        tour.WaitUntil(() => (folder = Directory.GetDirectories(_folder.Path, "migrationops-quickstart-*").SingleOrDefault()) is not null
            && Directory.GetFiles(folder, ".migrationops.*").Length > 0, "the save");
        int[] workers = [.. Directory.GetDirectories("/proc").Select(Path.GetFileName)
            .Where(name => int.TryParse(name, out int pid) && TryParentOf(pid) == tour.Id).Select(int.Parse!)];
        Assert.True(workers.Length == 1, tour.Output);
        int worker = workers[0];
        try
        {
            Assert.Equal(0, SendSignal(tour.Id, signal));
            Assert.Equal(128 + signal, tour.WaitForExit(30));
            Assert.False(Directory.Exists($"/proc/{worker}"), "PowerShell runs on.");
        }
        finally
        {
            // A test that fails leaves nothing either.
            _ = SendSignal(worker, Kill);
        }

        Assert.False(Directory.Exists(folder), tour.Output);
    }

    [Fact]
    public void Without_powershell_and_network_the_quickstart_runs_through_the_engine_and_says_why_in_one_line()
    {
        var start = Quickstart(["8"]);
        start.Environment["HOME"] = _folder.Path;
        start.Environment["NUGET_PACKAGES"] = _folder.File("packages");
        start.Environment["HTTPS_PROXY"] = start.Environment["https_proxy"] = "http://127.0.0.1:9";
        using var tour = new PeerProcess(start);
        Assert.True(tour.WaitForExit() == 0, tour.Output);
        string why = Assert.Single(tour.Output.Split('\n'), line => line.StartsWith("Running through the engine.", StringComparison.Ordinal));
        Assert.Contains("could not be restored", why, StringComparison.Ordinal);
        Assert.Contains("run: dotnet tool restore", why, StringComparison.Ordinal);
        Assert.Contains("checked by the back-end", tour.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void The_quickstart_runs_through_the_module()
    {
        using var tour = new PeerProcess(Quickstart(["8"]));
        Assert.True(tour.WaitForExit() == 0, tour.Output);
        Assert.Contains("Running through the PowerShell module", tour.Output, StringComparison.Ordinal);
        Assert.Contains("checked by the back-end", tour.Output, StringComparison.Ordinal);
        Assert.Empty(Directory.GetDirectories(_folder.Path, "migrationops-*"));
    }

    private static PowerShellCommand Find(string searchPath)
    {
        var found = PowerShellCommand.Find(searchPath, out string reason);
        Assert.True(found is not null, reason);
        return found;
    }

    // What "dotnet run --project examples/Quickstart" starts, without a pwsh on PATH.
    private ProcessStartInfo Quickstart(string[] arguments)
    {
        string library = typeof(PowerShellCommandTests).Assembly.Location.Replace("tests/MigrationOps.Module.Tests", "examples/Quickstart")
            .Replace("MigrationOps.Module.Tests.dll", "Quickstart.dll");
        // Whoever runs the tests in the background of a script has made them ignore SIGINT.
        var start = new ProcessStartInfo("env", ["--default-signal=INT", "dotnet", library, .. arguments]);
        start.Environment["TMPDIR"] = _folder.Path;
        start.Environment["PATH"] = string.Join(':', Environment.GetEnvironmentVariable("PATH")!.Split(':')
            .Where(folder => !File.Exists(Path.Combine(folder, "pwsh"))));
        return start;
    }

    private void WriteProgram(string name, string script)
    {
        string path = _folder.File(name);
        File.WriteAllText(path, $"#!/bin/sh\n{script}\n");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    private static int ParentOf(int pid) => TryParentOf(pid) ?? throw new InvalidOperationException($"Process {pid} has ended.");

    private static int? TryParentOf(int pid)
    {
        try
        {
            string status = File.ReadAllText($"/proc/{pid}/stat");
            return int.Parse(status[(status.LastIndexOf(')') + 2)..].Split(' ')[1]);
        }
        catch (IOException)
        {
            return null;
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int SendSignal(int process, int signal);
}
