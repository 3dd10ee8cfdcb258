using System.Management.Automation;
using System.Security;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

/// <summary>What saving and restoring a back-end's state have in common.</summary>
public abstract class VhostTransferCmdlet : NetworkTransferCmdlet
{
    protected const string PathSet = "Path";
    protected const string UriSet = "Uri";

    [Parameter(Mandatory = true, ParameterSetName = UriSet)]
    [ValidateNotNullOrEmpty]
    public string? Uri { get; set; }

    [Parameter(ParameterSetName = UriSet)]
    [ValidateNotNullOrEmpty]
    public override string? TlsCredential { get; set; }

    [Parameter(ParameterSetName = UriSet)]
    public override SwitchParameter AllowPlaintext { get; set; }

    [Parameter(ParameterSetName = UriSet)]
    [ValidateNotNull]
    public override SecureString? TlsPassphrase { get; set; }

    [Parameter]
    public SwitchParameter Raw { get; set; }

    /// <summary>The options that both directions share, with the names as the user means them.</summary>
    protected VhostTransferOptions NewOptions(string socketPath, string? path) => new()
    {
        SocketPath = ResolvePath(socketPath),
        Endpoint = path is not null ? new Endpoint.File(ResolvePath(path)) : ResolveEndpoint(Uri!),
        Raw = Raw,
        Security = Security,
    };

    /// <summary>The work: a transfer with progress, whose result is written to the pipeline.</summary>
    private protected Action<IOperationHost> Work(string activity, VhostTransferOptions options,
        Func<VhostTransferOptions, TransferScope, ILogger, VhostStateTransfer> transfer) => host => host.WithProgress(activity, meter =>
    {
        using var scope = NewScope(host);
        host.WriteObject(transfer(options with { Progress = meter.Report, Listening = _ => host.Listening() }, scope, host.Logger));
    });
}
