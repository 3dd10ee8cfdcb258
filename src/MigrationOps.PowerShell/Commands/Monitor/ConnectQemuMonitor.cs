using System.Globalization;
using System.Management.Automation;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommunications.Connect, "QemuMonitor", DefaultParameterSetName = PathSet)]
[OutputType(typeof(QemuMonitor))]
public sealed class ConnectQemuMonitor : OperationCmdlet
{
    private const string PathSet = "Path";
    private const string VMSet = "VM";
    private const string ProxmoxSet = "Proxmox";
    private const string LibvirtSet = "Libvirt";

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = PathSet)]
    [Alias("Uri", "SocketPath")]
    [ValidateNotNullOrEmpty]
    public string Path { get; set; } = "";

    [Parameter(Mandatory = true, ValueFromPipeline = true, ParameterSetName = VMSet)]
    [ValidateNotNull]
    public QemuVM? VM { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = ProxmoxSet)]
    [ValidateRange(100, 999_999_999)]
    public int ProxmoxId { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = LibvirtSet)]
    [ValidateNotNullOrEmpty]
    public string Domain { get; set; } = "";

    [Parameter(ParameterSetName = LibvirtSet)]
    [ValidateNotNullOrEmpty]
    public string LibvirtUri { get; set; } = LibvirtProxy.UsualUri;

    [Parameter]
    public SwitchParameter ReadOnly { get; set; }

    [Parameter]
    public SwitchParameter Lease { get; set; }

    [Parameter(ParameterSetName = PathSet)]
    [ValidateNotNullOrEmpty]
    public string? TlsCredential { get; set; }

    [Parameter(ParameterSetName = PathSet)]
    public SwitchParameter AllowPlaintext { get; set; }

    protected override object? Target => ParameterSetName switch
    {
        PathSet => Path,
        VMSet => VM?.ToString(),
        LibvirtSet => Domain,
        _ => ProxmoxId,
    };

    protected override Action<IOperationHost>? Prepare()
    {
        var session = RunspaceSession.Current;
        if (ParameterSetName == LibvirtSet)
        {
            string domain = Domain;
            string uri = LibvirtUri;
            return host => ConnectThroughProxy(host, session, uri, domain);
        }

        if (ParameterSetName == VMSet && MonitorAddress.DomainOf(VM!) is { } managed)
        {
            return host => ConnectThroughProxy(host, session, LibvirtProxy.UsualUri, managed);
        }

        var address = ParameterSetName switch
        {
            VMSet => MonitorAddress.Of(VM!),
            ProxmoxSet => new QmpMonitorOptions { Endpoint = new Endpoint.Unix(string.Create(CultureInfo.InvariantCulture, $"/var/run/qemu-server/{ProxmoxId}.qmp")), Lease = true },
            _ => MonitorAddress.Of(Path, ResolvePath) with { Security = new TransportSecurity(TlsCredential is null ? null : ResolvePath(TlsCredential), AllowPlaintext) },
        };
        var options = Complete(address);
        return host => Write(host, session, log => QmpMonitor.ConnectAsync(options, log, host.CancellationToken), null);
    }

    private QmpMonitorOptions Complete(QmpMonitorOptions address) => address with
    {
        ReadOnly = ReadOnly,
        Lease = address.Lease || Lease,
        Timeouts = QmpTimeouts.Of(Timeout),
        AskName = true,
    };

    // libvirt's own proxy gives an ordinary monitor for one client; libvirt's rule for it is to ask and to change nothing.
    private void ConnectThroughProxy(IOperationHost host, RunspaceSession session, string uri, string domain)
    {
        var proxy = LibvirtProxy.Start(uri, domain);
        try
        {
            var options = Complete(new QmpMonitorOptions { Endpoint = new Endpoint.Unix(proxy.SocketPath), Manager = VMManager.Libvirt }) with { ReadOnly = true };
            Write(host, session, log => proxy.ConnectAsync(options, log, host.CancellationToken), proxy);
        }
        catch
        {
            proxy.Dispose();
            throw;
        }
    }

    private static void Write(IOperationHost host, RunspaceSession session, Func<RelayLogger, Task<QmpMonitor>> connect, IDisposable? helper)
    {
        var log = new RelayLogger { Target = host.Logger };
        var engine = connect(log).GetAwaiter().GetResult();
        log.Target = NullLogger.Instance;
        host.WriteObject(session.AddOwned(new LiveMonitor(engine, log, session, helper)));
    }
}
