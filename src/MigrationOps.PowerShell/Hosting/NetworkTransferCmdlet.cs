using System.Management.Automation;
using MigrationOps.Engine.Wire;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>A transfer that may go over the network, where plain text has to be allowed.</summary>
public abstract class NetworkTransferCmdlet : TransferCmdlet
{
    [Parameter]
    [ValidateNotNullOrEmpty]
    public virtual string? TlsCredential { get; set; }

    [Parameter]
    public virtual SwitchParameter AllowPlaintext { get; set; }

    /// <summary>The rules for network endpoints. Take it on the pipeline's thread, for it looks at the current location.</summary>
    private protected TransportSecurity Security => new(TlsCredential is null ? null : ResolvePath(TlsCredential), AllowPlaintext);
}
