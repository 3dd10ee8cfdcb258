using System.Management.Automation;
using MigrationOps.Engine.Vfio;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommon.Get, "VfioDevice")]
[OutputType(typeof(VfioDeviceInfo))]
public sealed class GetVfioDevice : OperationCmdlet
{
    [Parameter(Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("FullName", "VfioDevice", "Name")]
    [ValidateNotNullOrEmpty]
    public string? Path { get; set; }

    [Parameter]
    public SwitchParameter Probe { get; set; }

    protected override object? Target => Path;

    protected override Action<IOperationHost>? Prepare()
    {
        string? name = Path is null ? null : VfioDevices.Resolve(Path, ResolvePath);
        return host =>
        {
            var machine = VfioHost.ThisMachine;
            var targets = name is null ? machine.FindAll() : [machine.Find(name)];
            var holders = machine.FindHolders();
            foreach (var target in targets)
            {
                var listed = machine.Describe(target, holders);
                host.WriteObject(Probe && listed.Usable ? Ask(host, machine, target, listed) : listed);
            }
        };
    }

    private static VfioDeviceInfo Ask(IOperationHost host, VfioHost machine, VfioTarget target, VfioDeviceInfo listed)
    {
        try
        {
            using var driver = machine.Open(target);
            return VfioProbe.Ask(driver, listed);
        }
        catch (MigrationOpsException e)
        {
            // A device that fails to open does not hide the others.
            host.WriteError(ErrorMap.ToErrorRecord(e, target.Path));
            return listed with { Usable = false, Reason = e.ErrorId, Message = $"{e.Message} {e.RecommendedAction}" };
        }
    }
}
