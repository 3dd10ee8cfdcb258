using System.Globalization;
using System.Management.Automation.Runspaces;
using System.Runtime.InteropServices;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// A PowerShell that was installed as a .NET tool is the child of a shim ("pwsh" on PATH, or "dotnet tool run pwsh"), which
/// passes no signal on: SIGTERM, SIGHUP or SIGKILL end the shim and leave PowerShell at work with no parent that waits for it.
/// Whoever stops the shim means the work. So the module ends its process when a shim above it ends.
/// </summary>
public static class ToolShim
{
    private const string ShimLibrary = "Microsoft.PowerShell.GlobalTool.Shim.dll";
    private const int Terminate = 15;

    // What a pipeline needs to stop and to run what is in finally.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    private static int s_watching;

    /// <summary>Watches the shims above this process, if there are any; the module's script calls it.</summary>
    public static void Watch()
    {
        // Only dotnet runs a PowerShell that has a shim. Once in a process is enough.
        if (Path.GetFileName(Environment.ProcessPath) != "dotnet" || Interlocked.Exchange(ref s_watching, 1) != 0)
        {
            return;
        }

        var shims = OpenShims();
        if (shims.Count > 0)
        {
            var runspace = Runspace.DefaultRunspace;
            SideThread.Start("watch of the pwsh shim", () => EndWith(shims, runspace));
        }
    }

    // From the parent upward: the shim, and the "dotnet tool run" that started it.
    private static List<SafeHandle> OpenShims()
    {
        var shims = new List<SafeHandle>();
        for (int? pid = ParentOf("self"); pid > 1 && IsShim(pid.Value); pid = ParentOf(Text(pid.Value)))
        {
            if (ProcessCalls.TryOpenProcess(pid.Value) is { } shim)
            {
                shims.Add(shim);
            }
        }

        return shims;
    }

    private static void EndWith(List<SafeHandle> shims, Runspace runspace)
    {
        using var self = ProcessCalls.TryOpenProcess(Environment.ProcessId);
        if (self is null)
        {
            return;
        }

        Span<Poll.PollFd> waits = stackalloc Poll.PollFd[shims.Count];
        for (int i = 0; i < waits.Length; i++)
        {
            waits[i] = new Poll.PollFd { Fd = (int)shims[i].DangerousGetHandle(), Events = PollEvents.Readable };
        }

        while (Poll.Wait(waits, Timeout.Infinite) == 0)
        {
            // A signal interrupted the wait.
        }

        // Stops the pipeline and runs what is in finally, so that files and sockets are cleaned up. No SIGINT: a process that a
        // script started in the background ignores it.
        using var closed = new ManualResetEventSlim();
        runspace.StateChanged += (_, change) =>
        {
            if (change.RunspaceStateInfo.State is RunspaceState.Closed or RunspaceState.Broken)
            {
                closed.Set();
            }
        };
        try
        {
            runspace.CloseAsync();
            closed.Wait(Patience);
        }
        catch (InvalidRunspaceStateException)
        {
            // It is closed already.
        }

        Spawn.Signal(self, Terminate);
    }

    private static bool IsShim(int pid)
    {
        try
        {
            string[] arguments = File.ReadAllText($"/proc/{Text(pid)}/cmdline").Split('\0');
            return (Path.GetFileName(arguments[0]) == "dotnet" && arguments is [_, "tool", "run", "pwsh", ..] or [_, "pwsh", ..])
                || File.ReadLines($"/proc/{Text(pid)}/maps").Any(line => line.EndsWith(ShimLibrary, StringComparison.Ordinal));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It has just ended, or is another user's; no shim is.
            return false;
        }
    }

    private static int? ParentOf(string process)
    {
        try
        {
            // The name in parentheses may hold anything; state and parent follow its last one.
            string status = File.ReadAllText($"/proc/{process}/stat");
            return int.Parse(status[(status.LastIndexOf(')') + 2)..].Split(' ')[1], CultureInfo.InvariantCulture);
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
