using System.Management.Automation;
using MigrationOps.Engine.Vfio;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommon.Get, "VfioDevice")]
[OutputType(typeof(VfioDeviceInfo))]
public sealed class GetVfioDevice : OperationCmdlet
{
    [Parameter(Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("FullName", "VfioDevice")]
    [ValidateNotNullOrEmpty]
    public string? Path { get; set; }

    protected override object? Target => Path;

    protected override Action<IOperationHost>? Prepare()
    {
        string[] nodes = Path is null ? [.. KernelVfioDriver.FindAll()] : [VfioTransferCmdlet.ResolveDevice(Path, ResolvePath)];
        return host =>
        {
            foreach (string node in nodes)
            {
                try
                {
                    using var driver = KernelVfioDriver.Open(node);
                    host.WriteObject(VfioProbe.Describe(driver));
                }
                catch (MigrationOpsException e)
                {
                    // One that another process holds does not hide the others.
                    host.WriteError(ErrorMap.ToErrorRecord(e, node));
                }
            }
        };
    }
}
