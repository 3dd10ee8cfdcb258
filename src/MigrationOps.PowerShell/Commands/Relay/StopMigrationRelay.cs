using System.Management.Automation;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Stop, "MigrationRelay", SupportsShouldProcess = true, DefaultParameterSetName = ObjectSet)]
[OutputType(typeof(void))]
public sealed class StopMigrationRelay : PSCmdlet
{
    private const string ObjectSet = "InputObject";
    private const string UriSet = "Uri";

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = ObjectSet, ValueFromPipeline = true)]
    [ValidateNotNull]
    public RelayedMigration? InputObject { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = UriSet)]
    [ValidateNotNullOrEmpty]
    public string? Uri { get; set; }

    protected override void ProcessRecord()
    {
        foreach (var relay in InputObject is { } one ? [one] : GetMigrationRelay.Find(this, Uri!))
        {
            if (ShouldProcess(relay.Uri, relay.IsRunning && relay.Phase != "Listening" ? "Stop the relay, which ends the migration that it carries" : "Stop the relay"))
            {
                relay.Dispose();
            }
        }
    }
}
