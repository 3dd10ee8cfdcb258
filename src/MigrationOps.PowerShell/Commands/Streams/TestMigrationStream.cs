using System.Management.Automation;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsDiagnostic.Test, "MigrationStream")]
[OutputType(typeof(DeviceStateReport), typeof(bool))]
public sealed class TestMigrationStream : StreamCmdlet
{
    [Parameter]
    public SwitchParameter Quiet { get; set; }

    protected override Action<IOperationHost>? Prepare()
    {
        var input = NewInput();
        return Reading(input, (host, scope) =>
        {
            var report = MigrationStreams.Test(input, scope);
            host.WriteObject(Quiet ? report.Passed : report);
        });
    }
}
