using System.Management.Automation;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommunications.Disconnect, "QemuMonitor")]
[OutputType(typeof(void))]
public sealed class DisconnectQemuMonitor : PSCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [ValidateNotNull]
    public QemuMonitor? Monitor { get; set; }

    protected override void ProcessRecord() => Monitor!.Dispose();
}
