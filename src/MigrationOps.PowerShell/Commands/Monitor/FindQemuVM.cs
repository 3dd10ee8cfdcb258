using System.Management.Automation;
using MigrationOps.Engine.Qmp;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommon.Find, "QemuVM")]
[OutputType(typeof(QemuVM))]
public sealed class FindQemuVM : OperationCmdlet
{
    [Parameter(Position = 0)]
    [SupportsWildcards]
    [ValidateNotNullOrEmpty]
    public string[] Name { get; set; } = ["*"];

    [Parameter]
    public VMManager[] Manager { get; set; } = [];

    [Parameter]
    public SwitchParameter NoQuery { get; set; }

    protected override object Target => string.Join(", ", Name);

    protected override Action<IOperationHost>? Prepare()
    {
        var patterns = Name.Select(name => (Text: name, Pattern: WildcardPattern.Get(name, WildcardOptions.IgnoreCase))).ToArray();
        bool IsWanted(QemuVM vm) => (Manager.Length == 0 || Manager.Contains(vm.Manager)) && patterns.Any(name => name.Pattern.IsMatch(vm.Name ?? ""));
        return host =>
        {
            var found = VMFinder.FindAsync(!NoQuery, IsWanted, host.Logger, host.CancellationToken).GetAwaiter().GetResult();
            foreach (var vm in found)
            {
                host.WriteObject(vm);
            }

            // As for Get-Process: a name without wildcards that is not there is an error.
            foreach (var (text, pattern) in patterns.Where(name => !WildcardPattern.ContainsWildcardCharacters(name.Text) && !found.Any(vm => name.Pattern.IsMatch(vm.Name ?? ""))))
            {
                host.WriteError(ErrorMap.ToErrorRecord(new QmpException(QmpError.VMNotFound, $"No VM '{text}' runs on this host."), text));
            }
        };
    }
}
