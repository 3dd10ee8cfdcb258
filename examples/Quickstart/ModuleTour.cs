using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using MigrationOps.Tools;

namespace MigrationOps.Quickstart;

/// <summary>Runs Quickstart.ps1 in a PowerShell of its own. Whoever ends this program ends that PowerShell.</summary>
internal static partial class ModuleTour
{
    private const int Interrupt = 2;
    private const int Terminate = 15;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    internal static int Run(PowerShellCommand pwsh, string module, string folder, long size)
    {
        int? received = null;
        using var stop = new CancellationTokenSource();
        using var interrupted = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using var terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using var hungUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, Stop);

        using var process = Process.Start(pwsh.CreateStartInfo("-NoProfile",
            "-File", Path.Combine(AppContext.BaseDirectory, "Quickstart.ps1"), "-Module", module,
            "-Folder", folder, "-Size", size.ToString(CultureInfo.InvariantCulture)))!;

        // Whatever the signal was, PowerShell gets the one at which it stops the pipeline and runs what is in finally.
        // It may have ended by itself just then.
        using (stop.Token.Register(() => _ = SendSignal(process.Id, Interrupt)))
        {
            try
            {
                process.WaitForExitAsync(stop.Token).GetAwaiter().GetResult();
            }
            catch (OperationCanceledException)
            {
                if (!process.WaitForExit(Patience))
                {
                    process.Kill(entireProcessTree: true);
                    process.WaitForExit();
                }
            }
        }

        // A shell's way to say which signal it was; PowerShell itself may end with 0 then.
        return received is { } signal ? 128 + signal : process.ExitCode;

        void Stop(PosixSignalContext context)
        {
            context.Cancel = true;
            received = context.Signal == PosixSignal.SIGINT ? Interrupt : Terminate;
            stop.Cancel();
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int SendSignal(int process, int signal);
}
