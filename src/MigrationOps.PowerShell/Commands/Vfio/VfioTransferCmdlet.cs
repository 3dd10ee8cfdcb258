using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

/// <summary>What transfers of VFIO device state over a migration's channels have in common.</summary>
public abstract class VfioTransferCmdlet : NetworkTransferCmdlet
{
    /// <summary>Work in the bounds of a whole transfer, with a progress bar.</summary>
    private protected Action<IOperationHost> Work(string activity, Action<IOperationHost, TransferScope> work)
        => host => host.WithProgress(activity, meter =>
        {
            using var scope = NewScope(host, ProgressRule.WholeTransfer, meter.Report);
            work(host, scope);
        });
}
