using System.Diagnostics;
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
    [ValidateRange(1, 255)]
    public int Channels { get; set; } = 4;

    [Parameter(ParameterSetName = PathSet)]
    [Parameter(ParameterSetName = DeviceSet)]
    [ValidateRange(1, 64 * 1024 * 1024 - 12)]
    public int PacketSize { get; set; } = 1024 * 1024;

    protected override object Target => Uri;

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
            DeviceSet => PrepareDevice(endpoint, ResolveDevice(VfioDevice, ResolvePath)),
            _ => _paths.Count == 0 ? null : PrepareFiles(endpoint),
        };
    }

    private Action<IOperationHost>? PrepareFiles(Endpoint endpoint)
        => ShouldProcess(endpoint.ToString(), $"Send the state of {string.Join(", ", _paths)}")
            ? WithProgress($"Sending device state to {endpoint}", (host, progress) =>
            {
                using var scope = NewScope(host);
                var sources = new List<IDeviceStateSource>();
                try
                {
                    _paths.ForEach(path => sources.Add(new StateFileSource(path, scope)));
                    Send(host, sources, endpoint, progress);
                }
                finally
                {
                    sources.ForEach(s => s.Dispose());
                }
            })
            : null;

    private Action<IOperationHost>? PrepareDevice(Endpoint endpoint, string node)
        => ShouldProcess(node, $"Stop the device and send its state to {endpoint}")
            ? WithProgress($"Sending the state of {node} to {endpoint}", (host, progress) =>
            {
                using var scope = NewScope(host);
                using var device = new VfioDevice(KernelVfioDriver.Open(node));
                using var source = new DeviceSource(device, IdStr ?? VfioStateStore.NameOf(device), scope);
                Send(host, [source], endpoint, progress);
            })
            : null;

    private void Send(IOperationHost host, IReadOnlyList<IDeviceStateSource> sources, Endpoint endpoint, Action<long> progress)
    {
        var options = new VfioSendOptions
        {
            Endpoint = endpoint,
            Security = Security(TlsCredential, AllowPlaintext),
            Channels = Channels,
            PacketSize = PacketSize,
            Timeout = Timeout,
            Progress = progress,
        };
        foreach (var result in VfioStateSender.Send(sources, options, host.CancellationToken))
        {
            host.WriteObject(result);
        }
    }

    private Action<IOperationHost>? PrepareReplay(Endpoint endpoint, string folder)
    {
        var security = Security(TlsCredential, AllowPlaintext);
        return ShouldProcess(endpoint.ToString(), $"Replay the migration in {folder}")
            ? WithProgress($"Replaying {folder} to {endpoint}", (host, progress) =>
            {
                var archive = SkipVerification ? MigrationArchive.Read(folder) : Verify(folder, host.CancellationToken);
                long start = Stopwatch.GetTimestamp();
                using var scope = new TransferScope(Timeout, ProgressRule.WholeTransfer, host.CancellationToken) { Progress = progress };
                using var sender = new MigrationSender(endpoint, security, scope);
                long bytes = ArchiveReplay.Send(folder, archive, sender, scope.CancellationToken);
                host.WriteObject(new MigrationReplay
                {
                    Archive = folder,
                    Peer = endpoint.ToString(),
                    Machine = archive.Machine,
                    Channels = archive.Channels.Count(),
                    Devices = [.. archive.Devices.Select(d => d.IdStr)],
                    Bytes = bytes,
                    Verified = !SkipVerification,
                    Duration = Stopwatch.GetElapsedTime(start),
                });
            })
            : null;
    }

    private MigrationArchive Verify(string folder, CancellationToken cancellationToken)
    {
        using var scope = new TransferScope(Timeout, ProgressRule.WholeTransfer, cancellationToken);
        return ArchiveVerifier.Verify(folder, scope);
    }
}
