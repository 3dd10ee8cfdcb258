using System.Management.Automation;
using MigrationOps.Engine.Vhost;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommon.Get, "VhostBackend")]
[OutputType(typeof(VhostBackendInfo))]
public sealed class GetVhostBackend : OperationCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("FullName", "Path", "PSPath")]
    [ValidateNotNullOrEmpty]
    public string SocketPath { get; set; } = "";

    protected override object Target => SocketPath;

    protected override Action<IOperationHost>? Prepare()
    {
        string path = ResolvePath(SocketPath);
        return host =>
        {
            using var scope = NewScope(host);
            host.WriteObject(VhostProbe.Describe(path, scope, host.Logger));
        };
    }
}
