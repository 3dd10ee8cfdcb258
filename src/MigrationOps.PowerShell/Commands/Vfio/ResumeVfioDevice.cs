using System.Management.Automation;
using MigrationOps.Engine.Vfio;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Resume, "VfioDevice", SupportsShouldProcess = true)]
[OutputType(typeof(VfioStateChange))]
public sealed class ResumeVfioDevice : OperationCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("Name")]
    [ValidateNotNullOrEmpty]
    public string VfioDevice { get; set; } = "";

    [Parameter]
    public SwitchParameter Reset { get; set; }

    protected override object Target => VfioDevice;

    protected override Action<IOperationHost>? Prepare()
    {
        string name = VfioDevices.Resolve(VfioDevice, ResolvePath);
        bool reset = Reset;
        return !ShouldProcess(name, reset ? "Reset the device: it loses its state, and runs" : "Let the device run with the state that it has") ? null : host =>
        {
            using var device = VfioDevices.Open(name, host);
            host.WriteObject(device.Resume(reset));
        };
    }
}
