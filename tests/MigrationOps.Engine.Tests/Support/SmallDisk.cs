using System.Diagnostics;
using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>A tmpfs of 1 MiB, which fills up. Without the right to mount, the test runs again in a user namespace.</summary>
internal sealed class SmallDisk : IDisposable
{
    private readonly TestFolder _mountPoint;

    private SmallDisk(TestFolder mountPoint) => _mountPoint = mountPoint;

    internal TestFolder Folder => _mountPoint;

    /// <summary>Runs a test on a small disk.</summary>
    /// <param name="test">Class and method, for the second try.</param>
    /// <param name="run">The test.</param>
    internal static void Run(string test, Action<TestFolder> run)
    {
        using var disk = TryMount(out string why);
        if (disk is not null)
        {
            run(disk.Folder);
            return;
        }

        Assert.SkipWhen(Environment.GetEnvironmentVariable("MIGRATIONOPS_NESTED") is not null, $"mount failed: {why}");
        var (exit, output) = Start("unshare", ["-rm", "true"]);
        Assert.SkipUnless(exit == 0,
            $"A small disk needs mount(8) ({why}) or user namespaces ({output}); run as root, or allow unprivileged user namespaces.");
        (exit, output) = Start("unshare", ["-rm", "dotnet", typeof(SmallDisk).Assembly.Location, "-method", test]);
        Assert.True(exit == 0 && !output.Contains("Skipped: 1"), output);
    }

    public void Dispose()
    {
        Start("umount", ["-l", _mountPoint.Path]);
        _mountPoint.Dispose();
    }

    private static SmallDisk? TryMount(out string why)
    {
        var folder = new TestFolder();
        (int exit, why) = Start("mount", ["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", folder.Path]);
        if (exit == 0)
        {
            return new SmallDisk(folder);
        }

        folder.Dispose();
        return null;
    }

    private static (int ExitCode, string Output) Start(string program, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true };
        start.Environment["MIGRATIONOPS_NESTED"] = "1";
        start.Environment["DOTNET_ROOT"] = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "../../.."));
        using var process = Process.Start(start)!;
        var errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, (output + errors.Result).Trim());
    }
}
