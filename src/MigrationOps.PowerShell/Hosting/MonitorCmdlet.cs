using System.Management.Automation;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Wire;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// A cmdlet that works with a monitor: one that Connect-QemuMonitor gave, or a VM, path or URI that it connects to for itself and
/// leaves again.
/// </summary>
public abstract class MonitorCmdlet : OperationCmdlet
{
    [Parameter(Mandatory = true, ValueFromPipeline = true)]
    [Alias("VM", "Path", "Uri")]
    [ValidateNotNull]
    public object Monitor { get; set; } = "";

    protected override object Target => (Monitor as PSObject)?.BaseObject ?? Monitor;

    /// <summary>True to connect, where that is still to be done, in a way that cannot change the VM.</summary>
    protected virtual bool OnlyReads => false;

    /// <summary>Prepares work with the monitor of the present pipeline object.</summary>
    private protected Action<IOperationHost> WithMonitor(Func<MonitorUse, Task> use)
    {
        object monitor = Connected() ?? (Monitor as PSObject)?.BaseObject ?? Monitor;
        var pslike = Monitor as PSObject;
        return host => UseAsync(host, monitor, pslike, use).GetAwaiter().GetResult();
    }

    // What was measured on a monitor of this session continues with that monitor: another connection would find it taken.
    private LiveMonitor? Connected() => PlainRecords.Read<DirtyRateProfile>(Monitor) is { } profile
        ? RunspaceSession.Current.All<LiveMonitor>().FirstOrDefault(live => live.Uri == profile.Monitor && live.Name == profile.VM) : null;

    private protected async Task UseAsync(IOperationHost host, object monitor, PSObject? wrapped, Func<MonitorUse, Task> use)
    {
        if (monitor is LiveMonitor live)
        {
            live.Log.Target = host.Logger;
            try
            {
                await use(new MonitorUse(live.Engine, live.Name, live, host)).ConfigureAwait(false);
            }
            finally
            {
                live.Log.Target = NullLogger.Instance;
            }

            return;
        }

        if (monitor is QemuVM vm && MonitorAddress.DomainOf(vm) is { } domain)
        {
            using var proxy = LibvirtProxy.Start(LibvirtProxy.UsualUri, domain);
            var reading = new QmpMonitorOptions { Endpoint = new Endpoint.Unix(proxy.SocketPath), Manager = VMManager.Libvirt, Timeouts = QmpTimeouts.Of(Timeout), ReadOnly = true, AskName = true };
            await using var reader = await proxy.ConnectAsync(reading, host.Logger, host.CancellationToken).ConfigureAwait(false);
            await use(new MonitorUse(reader, reader.VMName, null, host)).ConfigureAwait(false);
            return;
        }

        var options = Address(monitor, wrapped) with { Timeouts = QmpTimeouts.Of(Timeout), ReadOnly = OnlyReads, AskName = true };
        await using var engine = await QmpMonitor.ConnectAsync(options, host.Logger, host.CancellationToken).ConfigureAwait(false);
        await use(new MonitorUse(engine, engine.VMName, null, host)).ConfigureAwait(false);
    }

    /// <summary>The address that a VM, a path or a URI means.</summary>
    private protected QmpMonitorOptions Address(object monitor, PSObject? wrapped) => MonitorAddress.Of(monitor, wrapped, ResolvePath);
}

/// <summary>A monitor while a cmdlet works with it.</summary>
/// <param name="Engine">The engine's session.</param>
/// <param name="VM">The name of the VM.</param>
/// <param name="Live">The user's own object; null if it was connected for this command.</param>
/// <param name="Host">Where output goes.</param>
internal sealed record MonitorUse(QmpMonitor Engine, string? VM, LiveMonitor? Live, IOperationHost Host);
