using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

/// <summary>What transfers of VFIO device state over a migration's channels have in common.</summary>
public abstract class VfioTransferCmdlet : NetworkTransferCmdlet
{
    /// <summary>A device as the user names it: a node, or a PCI address.</summary>
    internal static string ResolveDevice(string device, Func<string, string> resolvePath)
        => device.Contains('/', StringComparison.Ordinal) ? resolvePath(device) : KernelVfioDriver.Resolve(device);

    /// <summary>Work in the bounds of a whole transfer, with a progress bar.</summary>
    private protected Action<IOperationHost> Work(string activity, Action<IOperationHost, TransferScope> work)
        => host => host.WithProgress(activity, meter =>
        {
            using var scope = NewScope(host, ProgressRule.WholeTransfer, meter.Report);
            work(host, scope);
        });
}
