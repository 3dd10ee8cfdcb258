using System.Management.Automation;
using MigrationOps.Engine.Cpr;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommon.Get, "CprFd")]
[OutputType(typeof(CprFd))]
public sealed class GetCprFd : CprRegistryCmdlet
{
    [Parameter(Position = 0)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    public string Name { get; set; } = "*";

    [Parameter(Position = 1)]
    public int? Id { get; set; }

    protected override object Target => Name;

    protected override void Process()
    {
        // Names have backslashes as escapes, and brackets of their own rarely: an exact name comes first.
        var pattern = new WildcardPattern(Name);
        CprEntry[] found = [.. Session.Registry.Entries.Where(entry => (Id is null || entry.Id == Id)
            && (entry.Name.ToString() == Name || pattern.IsMatch(entry.Name.ToString())))];
        if (found.Length == 0 && !WildcardPattern.ContainsWildcardCharacters(Name))
        {
            throw new CprException(CprError.EntryNotFound,
                Id is null ? $"'{Name}' is not registered." : $"'{Name}', id {Id}, is not registered.",
                action: "Get-CprFd without a name lists what is registered.")
            { Target = Name };
        }

        foreach (var entry in found)
        {
            try
            {
                WriteObject(CprFdInspector.Describe(entry));
            }
            catch (CprException e)
            {
                WriteError(ErrorMap.ToErrorRecord(e, entry.Name.ToString()));
            }
        }
    }
}
