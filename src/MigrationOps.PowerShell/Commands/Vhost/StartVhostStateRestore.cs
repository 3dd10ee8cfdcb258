using System.Management.Automation;
using MigrationOps.Engine.Vhost;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Start, "VhostStateRestore", SupportsShouldProcess = true, DefaultParameterSetName = PathSet)]
[OutputType(typeof(VhostStateTransfer), typeof(Job))]
public sealed class StartVhostStateRestore : VhostTransferCmdlet
{
    // Not from the pipeline: a saved state's own SocketPath is where it came from, not where it shall go.
    [Parameter(Mandatory = true, Position = 0)]
    [ValidateNotNullOrEmpty]
    public string SocketPath { get; set; } = "";

    [Parameter(Mandatory = true, Position = 1, ParameterSetName = PathSet, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("FullName", "LiteralPath", "PSPath")]
    [ValidateNotNullOrEmpty]
    public string? Path { get; set; }

    [Parameter(ValueFromPipelineByPropertyName = true)]
    [AllowNull]
    [AllowEmptyString]
    public string? Sha256 { get; set; }

    protected override object Target => SocketPath;

    private protected override bool Listens => IsSocket(Uri);

    protected override Action<IOperationHost>? Prepare()
    {
        var options = NewOptions(SocketPath, Path) with { ExpectedSha256 = string.IsNullOrEmpty(Sha256) ? null : Sha256 };
        return IfConfirmed(options.SocketPath, $"Load the state from {options.Endpoint} into the back-end",
            Work($"Loading a state into {options.SocketPath}", options, (o, scope, logger) => VhostStateLoader.Load(o, scope, logger)));
    }
}
