using System.Management.Automation;
using MigrationOps.Engine.Vfio;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

/// <summary>What transfers of VFIO device state over a migration's channels have in common.</summary>
public abstract class VfioTransferCmdlet : TransferCmdlet
{
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? TlsCredential { get; set; }

    [Parameter]
    public SwitchParameter AllowPlaintext { get; set; }

    /// <summary>A device as the user names it: a node, or a PCI address.</summary>
    internal static string ResolveDevice(string device, Func<string, string> resolvePath)
        => device.Contains('/', StringComparison.Ordinal) ? resolvePath(device) : KernelVfioDriver.Resolve(device);

    /// <summary>Work with a progress bar.</summary>
    private protected static Action<IOperationHost> WithProgress(string activity, Action<IOperationHost, Action<long>> work) => host =>
    {
        var meter = new ProgressMeter(host, activity.GetHashCode(StringComparison.Ordinal) & int.MaxValue, activity);
        try
        {
            work(host, bytes => meter.Report(bytes, null));
        }
        finally
        {
            meter.Complete();
        }
    };
}
