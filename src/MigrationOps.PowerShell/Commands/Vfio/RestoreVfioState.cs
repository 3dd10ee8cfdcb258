using System.Management.Automation;
using MigrationOps.Engine.Vfio;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsData.Restore, "VfioState", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Medium)]
[OutputType(typeof(VfioStateTransfer), typeof(Job))]
public sealed class RestoreVfioState : TransferCmdlet
{
    [Parameter(Mandatory = true, Position = 0)]
    [ValidateNotNullOrEmpty]
    public string VfioDevice { get; set; } = "";

    [Parameter(Mandatory = true, Position = 1, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("FullName", "LiteralPath", "PSPath")]
    [ValidateNotNullOrEmpty]
    public string Path { get; set; } = "";

    [Parameter]
    public SwitchParameter Marker { get; set; }

    [Parameter]
    public SwitchParameter LeaveStopped { get; set; }

    protected override object Target => VfioDevice;

    protected override Action<IOperationHost>? Prepare()
    {
        string node = VfioDevices.Resolve(VfioDevice, ResolvePath), path = ResolvePath(Path);
        var format = Marker ? VfioStateFormat.Markers : VfioStateFormat.StateFile;
        var afterwards = LeaveStopped ? VfioState.Stop : VfioState.Running;
        return IfConfirmed(node, $"Load the state in {path} into the device", host =>
        {
            using var scope = NewScope(host);
            using var device = VfioDevices.Open(node, host);
            host.WriteObject(VfioStateStore.Restore(device, path, format, afterwards, scope));
        });
    }
}
