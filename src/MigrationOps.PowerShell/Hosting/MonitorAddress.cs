using System.Management.Automation;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Wire;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>How the monitor is reached that a user means.</summary>
internal static class MonitorAddress
{
    /// <summary>What a user gave as a monitor: a VM, a file, a path, a URI, or a picture of one of these that came by remoting.</summary>
    internal static QmpMonitorOptions Of(object monitor, PSObject? wrapped, Func<string, string> resolve) => monitor switch
    {
        QemuVM vm => Of(vm),
        FileInfo file => new QmpMonitorOptions { Endpoint = new Endpoint.Unix(file.FullName) },
        string text => Of(text, resolve),
        DirtyRateProfile profile => Of(profile.Monitor, resolve),
        QemuMonitor => throw new QmpException(QmpError.Disconnected, "The monitor is not of this session."),
        // What came by remoting has the address and no connection.
        _ when wrapped?.Properties["Monitors"] is not null && wrapped.Properties["Monitor"]?.Value is string uri => Of(uri, resolve),
        _ when wrapped?.Properties["Uri"]?.Value is string uri => Of(uri, resolve),
        _ when PlainRecords.Read<DirtyRateProfile>(wrapped) is { } profile => Of(profile.Monitor, resolve),
        _ => throw new QmpException(QmpError.InvalidArgument, $"Expected a monitor, a VM, a path or a URI, found {monitor.GetType().Name}.",
            action: "Give what Connect-QemuMonitor or Find-QemuVM returned, or the path of the monitor's socket."),
    };

    /// <summary>The usable monitor of a VM.</summary>
    /// <exception cref="QmpException"><see cref="QmpError.NoMonitor"/>, <see cref="QmpError.MonitorBusy"/>, <see cref="QmpError.ManagedMonitor"/>.</exception>
    internal static QmpMonitorOptions Of(QemuVM vm)
    {
        if (vm.Monitors.FirstOrDefault(monitor => monitor.IsUsable) is { } usable)
        {
            return new QmpMonitorOptions { Endpoint = Endpoint.Parse(usable.Uri), Lease = usable.NeedsLease };
        }

        var reason = vm.Manager == VMManager.Libvirt ? QmpError.ManagedMonitor : vm.MonitorHolder is not null ? QmpError.MonitorBusy : QmpError.NoMonitor;
        throw new QmpException(reason, $"The VM {vm} has no monitor to connect to: {vm.Problem}") { Target = vm.ToString() };
    }

    /// <summary>The domain by whose name libvirt's proxy reaches a VM; null if it has a monitor of its own, or is none of libvirt's.</summary>
    internal static string? DomainOf(QemuVM vm)
        => vm.Manager == VMManager.Libvirt && !vm.Monitors.Any(monitor => monitor.IsUsable) ? vm.Name : null;

    /// <summary>A path of a socket, or a URI.</summary>
    internal static QmpMonitorOptions Of(string text, Func<string, string> resolve)
    {
        var endpoint = text.StartsWith("unix:", StringComparison.Ordinal) || text.StartsWith("tcp:", StringComparison.Ordinal)
            ? Endpoint.Parse(text) : new Endpoint.Unix(text);
        return new QmpMonitorOptions
        {
            Endpoint = endpoint is Endpoint.Unix { Path: not ['@', ..] } unix ? new Endpoint.Unix(resolve(unix.Path)) : endpoint,
            Lease = endpoint is Endpoint.Unix { Path: var path } && MonitorManager.OfSocket(path) == VMManager.Proxmox,
        };
    }
}
