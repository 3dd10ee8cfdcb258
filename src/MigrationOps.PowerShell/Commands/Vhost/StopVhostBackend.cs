using System.Management.Automation;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Stop, "VhostBackend", SupportsShouldProcess = true, DefaultParameterSetName = ObjectSet)]
[OutputType(typeof(void))]
public sealed class StopVhostBackend : PSCmdlet
{
    private const string ObjectSet = "InputObject";
    private const string SocketSet = "SocketPath";

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = ObjectSet, ValueFromPipeline = true)]
    [ValidateNotNull]
    public EmbeddedVhostBackend? InputObject { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = SocketSet)]
    [ValidateNotNullOrEmpty]
    public string? SocketPath { get; set; }

    protected override void ProcessRecord()
    {
        var backend = InputObject ?? Find(GetUnresolvedProviderPathFromPSPath(SocketPath));
        if (backend is not null && ShouldProcess(backend.SocketPath, "Stop the embedded vhost-user back-end"))
        {
            backend.Dispose();
        }
    }

    private EmbeddedVhostBackend? Find(string path)
    {
        var backend = Array.Find(RunspaceSession.Current.All<EmbeddedVhostBackend>(), b => b.SocketPath == path);
        if (backend is null)
        {
            WriteError(new ErrorRecord(new ItemNotFoundException($"This session runs no embedded back-end at '{path}'."),
                "VhostBackendNotFound", ErrorCategory.ObjectNotFound, path)
            {
                ErrorDetails = new ErrorDetails($"This session runs no embedded back-end at '{path}'.")
                {
                    RecommendedAction = "Stop it in the session that started it, or give the object that Start-VhostBackend returned.",
                },
            });
        }

        return backend;
    }
}
