using System.Management.Automation;
using MigrationOps.Engine.Moving;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsDiagnostic.Resolve, "QemuMigration", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.High, DefaultParameterSetName = MonitorSet)]
[OutputType(typeof(QemuMigrationVerdict))]
public sealed class ResolveQemuMigration : OperationCmdlet
{
    private const string JournalSet = "Journal";
    private const string MonitorSet = "Monitor";

    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = JournalSet)]
    [Alias("Path", "FullName")]
    [ValidateNotNullOrEmpty]
    public string? Journal { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = MonitorSet)]
    [Parameter(ParameterSetName = JournalSet)]
    [ValidateNotNull]
    public object? Source { get; set; }

    [Parameter(ParameterSetName = MonitorSet)]
    [Parameter(ParameterSetName = JournalSet)]
    [ValidateNotNull]
    public new object? Target { get; set; }

    [Parameter]
    public SwitchParameter Repair { get; set; }

    [Parameter]
    [ValidateNotNull]
    public MigrationAssumption[] Assume { get; set; } = [];

    protected override Action<IOperationHost>? Prepare()
    {
        var source = Source is null ? null : GivenMonitor.Of(Source, ResolvePath);
        var target = Target is null ? null : GivenMonitor.Of(Target, ResolvePath);
        var options = new MoveInspectionOptions
        {
            JournalPath = Journal is null ? null : ResolvePath(Journal),
            Source = source?.Address,
            ConnectedSource = source?.Connected,
            Target = target?.Address,
            ConnectedTarget = target?.Connected,
            Assumptions = Assume,
            Patience = Timeout,
        };
        var timeout = Timeout;
        string what = options.JournalPath ?? source!.Uri;

        // An assumption that is wrong is what two running VMs are made of.
        if (Assume.Length > 0 && !ShouldProcess(what, $"Take for true without evidence: {string.Join(", ", Assume)}"))
        {
            return null;
        }

        if (Repair)
        {
            return IfConfirmed(what, "Do what is safe until exactly one side has the VM",
                host => host.WriteObject(MoveRepair.RunAsync(options with { Logger = host.Logger }, timeout, host.CancellationToken).GetAwaiter().GetResult()));
        }

        return host => LookAsync(host, options with { Logger = host.Logger }).GetAwaiter().GetResult();
    }

    private static async Task LookAsync(IOperationHost host, MoveInspectionOptions options)
    {
        await using var seen = await MoveInspection.LookAsync(options, host.CancellationToken).ConfigureAwait(false);
        host.WriteObject(seen.ToVerdict([]));
    }
}
