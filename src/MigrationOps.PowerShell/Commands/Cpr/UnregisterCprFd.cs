using System.Management.Automation;
using MigrationOps.Engine.Cpr;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Unregister, "CprFd", SupportsShouldProcess = true)]
[OutputType(typeof(void))]
public sealed class UnregisterCprFd : CprRegistryCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    public string Name { get; set; } = "";

    [Parameter(Position = 1, ValueFromPipelineByPropertyName = true)]
    public int Id { get; set; }

    protected override object Target => Name;

    protected override void Process()
    {
        var name = CprName.Parse(Name);
        if (Session.Registry.FindFd(name, Id) is null)
        {
            throw new CprException(CprError.EntryNotFound, $"'{Name}', id {Id}, is not registered.") { Target = Name };
        }

        if (ShouldProcess($"{Name}, id {Id}", "Close the descriptor and forget it"))
        {
            Session.Registry.DeleteFd(name, Id);
        }
    }
}
