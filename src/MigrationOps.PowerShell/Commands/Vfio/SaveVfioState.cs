using System.Management.Automation;
using MigrationOps.Engine.Vfio;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsData.Save, "VfioState", SupportsShouldProcess = true)]
[OutputType(typeof(VfioStateTransfer), typeof(Job))]
public sealed class SaveVfioState : TransferCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    [Alias("Name")]
    [ValidateNotNullOrEmpty]
    public string VfioDevice { get; set; } = "";

    [Parameter(Mandatory = true, Position = 1)]
    [ValidateNotNullOrEmpty]
    public string Path { get; set; } = "";

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? IdStr { get; set; }

    [Parameter]
    public SwitchParameter Marker { get; set; }

    protected override object Target => VfioDevice;

    protected override Action<IOperationHost>? Prepare()
    {
        string node = VfioDevices.Resolve(VfioDevice, ResolvePath), path = ResolvePath(Path);
        var format = Marker ? VfioStateFormat.Markers : VfioStateFormat.StateFile;
        return IfConfirmed(node, $"Stop the device and save its state to {path}", host =>
        {
            using var scope = NewScope(host);
            using var device = VfioDevices.Open(node, host);
            host.WriteObject(VfioStateStore.Save(device, path, IdStr, format, scope));
        });
    }
}
