using System.Management.Automation;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommon.Get, "SaveVMHandler")]
[OutputType(typeof(SaveVmRegistration))]
public sealed class GetSaveVMHandler : PSCmdlet
{
    [Parameter(Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    public string IdStr { get; set; } = "*";

    protected override void ProcessRecord()
    {
        var pattern = WildcardPattern.Get(IdStr, WildcardOptions.None);
        foreach (var entry in SessionRegistry.Current.Entries)
        {
            if (pattern.IsMatch(entry.IdStr))
            {
                WriteObject(SessionRegistry.Describe(entry));
            }
        }
    }
}
