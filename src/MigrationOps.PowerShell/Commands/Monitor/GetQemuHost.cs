using System.Management.Automation;
using MigrationOps.Engine.Qmp;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommon.Get, "QemuHost")]
[OutputType(typeof(QemuHost))]
public sealed class GetQemuHost : OperationCmdlet
{
    [Parameter(Position = 0)]
    [ValidateNotNullOrEmpty]
    public string? Program { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? ProbeMachine { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? ProbeCpu { get; set; }

    protected override object? Target => Program;

    protected override Action<IOperationHost>? Prepare()
    {
        var options = new HostProbeOptions
        {
            Program = Program is { } program && program.Contains('/', StringComparison.Ordinal) ? ResolvePath(program) : Program,
            Machine = ProbeMachine,
            Cpu = ProbeCpu,
            Timeouts = QmpTimeouts.Of(Timeout),
        };
        return host => host.WriteObject(HostProbe.TakeAsync(options, host.Logger, host.CancellationToken).GetAwaiter().GetResult());
    }
}
