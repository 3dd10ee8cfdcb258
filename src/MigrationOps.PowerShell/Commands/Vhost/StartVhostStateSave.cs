using System.Management.Automation;
using MigrationOps.Engine.Vhost;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Start, "VhostStateSave", SupportsShouldProcess = true, DefaultParameterSetName = PathSet)]
[OutputType(typeof(VhostStateTransfer), typeof(Job))]
public sealed class StartVhostStateSave : VhostTransferCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    public string SocketPath { get; set; } = "";

    [Parameter(Mandatory = true, Position = 1, ParameterSetName = PathSet, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    public string? Path { get; set; }

    [Parameter]
    public SwitchParameter NoHash { get; set; }

    [Parameter(ParameterSetName = UriSet)]
    [ValidateNotNullOrEmpty]
    public string? TlsHostName { get; set; }

    protected override object Target => SocketPath;

    private protected override string? ExpectedHostName => TlsHostName;

    protected override Action<IOperationHost>? Prepare()
    {
        var options = NewOptions(SocketPath, Path) with { ComputeHash = !NoHash };
        return IfConfirmed(options.SocketPath, $"Save the back-end's state to {options.Endpoint}",
            Work($"Saving the state of {options.SocketPath}", options, VhostStateSaver.Save));
    }
}
