using System.Management.Automation;
using MigrationOps.Engine.SaveVm;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommunications.Receive, "MigrationStream", SupportsShouldProcess = true)]
[OutputType(typeof(MigrationStreamTransfer), typeof(Job))]
public sealed class ReceiveMigrationStream : MigrationDriverCmdlet
{
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? SpoolPath { get; set; }

    protected override Action<IOperationHost>? Prepare()
    {
        var endpoint = ResolveEndpoint(Uri);
        var security = Security(TlsCredential, AllowPlaintext);
        if (SwitchoverAck && endpoint is Engine.Wire.Endpoint.File)
        {
            throw new SaveVmException(SaveVmError.InvalidOption, $"{endpoint} has no source that waits for -SwitchoverAck.");
        }

        var options = new SaveVmTargetOptions { MachineType = MachineType, SwitchoverAck = SwitchoverAck, SpoolPath = SpoolPath is null ? null : ResolvePath(SpoolPath) };
        return ShouldProcess(endpoint.ToString(), "Load the stream into this session's registered devices")
            ? Work($"Receiving a migration on {endpoint}", (host, scope, meter, registry) => SaveVmTransfer.Receive(
                registry, endpoint, security, options with { OnProgress = bytes => meter.Report(bytes, null) }, scope, host.Logger))
            : null;
    }
}
