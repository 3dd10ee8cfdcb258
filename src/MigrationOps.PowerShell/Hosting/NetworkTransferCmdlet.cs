using System.Management.Automation;
using System.Security;
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

    [Parameter]
    [ValidateNotNull]
    public virtual SecureString? TlsPassphrase { get; set; }

    /// <summary>The name that the server's certificate must carry; senders have a parameter for it.</summary>
    private protected virtual string? ExpectedHostName => null;

    /// <summary>The rules for network endpoints. Take it on the pipeline's thread, for it looks at the current location.</summary>
    private protected TransportSecurity Security => new(TlsCredential is null ? null : ResolvePath(TlsCredential), AllowPlaintext, ExpectedHostName, TlsPassphrase);
}
