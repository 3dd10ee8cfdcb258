using System.Management.Automation;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommunications.Send, "VfioMultifdState", SupportsShouldProcess = true, DefaultParameterSetName = PathSet)]
[OutputType(typeof(VfioStateTransfer), typeof(MigrationReplay), typeof(Job))]
public sealed class SendVfioMultifdState : VfioTransferCmdlet
{
    private const string PathSet = "Path";
    private const string DeviceSet = "Device";
    private const string ArchiveSet = "Archive";

    private readonly List<string> _paths = [];

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = PathSet, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("FullName", "LiteralPath", "PSPath")]
    [ValidateNotNullOrEmpty]
    public string[] Path { get; set; } = [];

    [Parameter(Mandatory = true, ParameterSetName = DeviceSet)]
    [ValidateNotNullOrEmpty]
    public string VfioDevice { get; set; } = "";

    [Parameter(ParameterSetName = DeviceSet)]
    [ValidateNotNullOrEmpty]
    public string? IdStr { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = ArchiveSet)]
    [ValidateNotNullOrEmpty]
    public string Archive { get; set; } = "";

    [Parameter(ParameterSetName = ArchiveSet)]
    public SwitchParameter SkipVerification { get; set; }

    [Parameter(Mandatory = true, Position = 1)]
    [ValidateNotNullOrEmpty]
    public string Uri { get; set; } = "";

    [Parameter(ParameterSetName = PathSet)]
    [Parameter(ParameterSetName = DeviceSet)]
    [ValidateRange(1, VfioSendOptions.MaxChannels)]
    public int Channels { get; set; } = 4;

    [Parameter(ParameterSetName = PathSet)]
    [Parameter(ParameterSetName = DeviceSet)]
    [ValidateRange(1, VfioSendOptions.MaxPacketSize)]
    public int PacketSize { get; set; } = 1024 * 1024;

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? TlsHostName { get; set; }

    protected override object Target => Uri;

    private protected override string? ExpectedHostName => TlsHostName;

    protected override Action<IOperationHost>? Prepare()
    {
        // All files go in one migration: a receiver takes one.
        _paths.AddRange(Path.Select(ResolvePath));
        return null;
    }

    protected override Action<IOperationHost>? PrepareEnd()
    {
        var endpoint = ResolveEndpoint(Uri);
        return ParameterSetName switch
        {
            ArchiveSet => PrepareReplay(endpoint, ResolvePath(Archive)),
            DeviceSet => PrepareDevice(endpoint, VfioDevices.Resolve(VfioDevice, ResolvePath)),
            _ => _paths.Count == 0 ? null : PrepareFiles(endpoint),
        };
    }

    private Action<IOperationHost>? PrepareFiles(Endpoint endpoint) => IfConfirmed(
        endpoint.ToString(), $"Send the state of {string.Join(", ", _paths)}", Work($"Sending device state to {endpoint}", (host, scope) =>
        {
            var sources = new List<IDeviceStateSource>();
            try
            {
                _paths.ForEach(path => sources.Add(new StateFileSource(path, scope)));
                Send(host, sources, endpoint, scope);
            }
            finally
            {
                sources.ForEach(s => s.Dispose());
            }
        }));

    private Action<IOperationHost>? PrepareDevice(Endpoint endpoint, string node) => IfConfirmed(
        node, $"Stop the device and send its state to {endpoint}", Work($"Sending the state of {node} to {endpoint}", (host, scope) =>
        {
            using var device = VfioDevices.Open(node, host);
            using var source = new DeviceSource(device, IdStr ?? VfioStateStore.NameOf(device), scope);
            Send(host, [source], endpoint, scope);
        }));

    private void Send(IOperationHost host, IReadOnlyList<IDeviceStateSource> sources, Endpoint endpoint, TransferScope scope)
    {
        var options = new VfioSendOptions { Endpoint = endpoint, Security = Security, Channels = Channels, PacketSize = PacketSize };
        foreach (var result in VfioStateSender.Send(sources, options, scope))
        {
            host.WriteObject(result);
        }
    }

    private Action<IOperationHost>? PrepareReplay(Endpoint endpoint, string folder)
    {
        var security = Security;
        return IfConfirmed(endpoint.ToString(), $"Replay the migration in {folder}", Work($"Replaying {folder} to {endpoint}", (host, scope) =>
        {
            if (!SkipVerification)
            {
                using var reading = NewScope(host, ProgressRule.WholeTransfer);
                ArchiveVerifier.Verify(folder, reading);
            }

            host.WriteObject(ArchiveReplay.Send(folder, endpoint, security, verified: !SkipVerification, scope));
        }));
    }
}
