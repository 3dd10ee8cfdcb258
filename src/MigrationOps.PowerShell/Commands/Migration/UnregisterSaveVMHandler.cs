using System.Management.Automation;
using MigrationOps.Engine.SaveVm;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Unregister, "SaveVMHandler", SupportsShouldProcess = true)]
[OutputType(typeof(void))]
public sealed class UnregisterSaveVMHandler : PSCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    public string IdStr { get; set; } = "";

    [Parameter(Position = 1, ValueFromPipelineByPropertyName = true)]
    [ValidateRange(0, uint.MaxValue)]
    public long? InstanceId { get; set; }

    protected override void ProcessRecord()
    {
        var registry = SessionRegistry.Current;
        var found = registry.Entries.Where(e => e.IdStr == IdStr && (InstanceId is null || e.InstanceId == InstanceId)).ToList();
        if (found.Count == 0)
        {
            string name = InstanceId is null ? IdStr : $"{IdStr}' instance '{InstanceId}";
            WriteError(ErrorMap.ToErrorRecord(new SaveVmException(SaveVmError.NotRegistered, $"No handler is registered as '{name}'."), IdStr));
        }

        foreach (var entry in found)
        {
            if (ShouldProcess(entry.ToString(), "Unregister the device"))
            {
                registry.Unregister(entry);
            }
        }
    }
}
