using System.Management.Automation;
using MigrationOps.Engine.Rehearsal;
using MigrationOps.Engine.Streams;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsDiagnostic.Test, "MigrationStream", DefaultParameterSetName = CheckSet)]
[OutputType(typeof(DeviceStateReport), typeof(MigrationRehearsal), typeof(bool))]
public sealed class TestMigrationStream : StreamCmdlet
{
    private const string CheckSet = "Check";
    private const string RehearsalSet = "Rehearsal";

    [Parameter(Mandatory = true, ParameterSetName = RehearsalSet)]
    [ValidateNotNullOrEmpty]
    public string Program { get; set; } = "";

    // One string is a line as a shell or virsh prints it.
    [Parameter(ParameterSetName = RehearsalSet)]
    [AllowEmptyCollection]
    public string[] ArgumentList { get; set; } = [];

    [Parameter(ParameterSetName = RehearsalSet)]
    public SwitchParameter SkipMemory { get; set; }

    [Parameter]
    public SwitchParameter Quiet { get; set; }

    protected override Action<IOperationHost>? Prepare()
    {
        var input = NewInput();
        if (ParameterSetName == CheckSet)
        {
            return Reading(input, (host, scope, stream) =>
            {
                var report = MigrationStreams.Test(stream, scope);
                host.WriteObject(Quiet ? report.Passed : report);
            });
        }

        var options = new RehearsalOptions
        {
            Input = input,
            Program = Program.Contains('/', StringComparison.Ordinal) || Program.StartsWith('~') ? ResolvePath(Program) : Program,
            ArgumentList = StreamRehearsal.SplitArguments(ArgumentList),
            WorkingDirectory = ResolvePath("."),
            SkipMemory = SkipMemory,
            Timeout = Timeout,
        };
        return Reading(input, (host, scope, stream) =>
        {
            var rehearsal = StreamRehearsal.RunAsync(options with { Input = stream }, scope, host.Logger).GetAwaiter().GetResult();
            host.WriteObject(Quiet ? rehearsal.Passed : rehearsal);
        });
    }
}
