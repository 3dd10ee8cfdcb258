using System.Management.Automation;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Vfio;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommunications.Receive, "VfioMultifdState", SupportsShouldProcess = true)]
[OutputType(typeof(VfioStateTransfer), typeof(Job))]
public sealed class ReceiveVfioMultifdState : VfioTransferCmdlet
{
    [Parameter(Mandatory = true, Position = 0)]
    [ValidateNotNullOrEmpty]
    public string Uri { get; set; } = "";

    [Parameter(Position = 1)]
    [ValidateNotNullOrEmpty]
    public string? Destination { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Archive { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? VfioDevice { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? IdStr { get; set; }

    [Parameter]
    [ValidateRange(1, 255)]
    public int Channels { get; set; }

    [Parameter]
    [ValidateRange(1024 * 1024, long.MaxValue)]
    public long MemoryBudget { get; set; } = 256L * 1024 * 1024;

    [Parameter]
    [ValidateRange(4096, 1024 * 1024 * 1024)]
    public int PacketLimit { get; set; } = 64 * 1024 * 1024;

    [Parameter]
    [ValidateSet("1024", "2048", "4096", "8192", "16384", "65536")]
    public int PageSize { get; set; } = 4096;

    [Parameter]
    public SwitchParameter SwitchoverAck { get; set; }

    [Parameter]
    public SwitchoverAckCount SwitchoverAckCount { get; set; }

    protected override object Target => Uri;

    private protected override bool Listens => true;

    protected override Action<IOperationHost>? Prepare()
    {
        var options = new VfioReceiveOptions
        {
            Endpoint = ResolveEndpoint(Uri),
            Security = Security,
            Destination = Destination is null ? null : ResolvePath(Destination),
            Archive = Archive is null ? null : ResolvePath(Archive),
            IdStr = IdStr,
            MemoryBudget = MemoryBudget,
            Receive = new ReceiveOptions
            {
                Channels = Channels == 0 ? null : Channels,
                PageSize = PageSize,
                PacketLimit = PacketLimit,
                SwitchoverAck = SwitchoverAck,
                SwitchoverAckCount = SwitchoverAckCount,
            },
        };
        string? node = VfioDevice is null ? null : VfioDevices.Resolve(VfioDevice, ResolvePath);
        string action = "Receive a migration" + (node is null ? "" : $" and load it into {node}");
        return IfConfirmed(options.Endpoint.ToString(), action, Work($"Receiving a migration on {options.Endpoint}", (host, scope) =>
        {
            using var device = node is null ? null : VfioDevices.Open(node, host);
            foreach (var result in VfioStateReceiver.Receive(options with { Device = device, Listening = _ => host.Listening() }, host.Logger, scope))
            {
                host.WriteObject(result);
            }
        }));
    }
}
