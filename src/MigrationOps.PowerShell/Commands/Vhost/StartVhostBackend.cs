using System.Management.Automation;
using MigrationOps.Engine.Vhost;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Start, "VhostBackend", SupportsShouldProcess = true, DefaultParameterSetName = SizeSet)]
[OutputType(typeof(EmbeddedVhostBackend))]
public sealed class StartVhostBackend : PSCmdlet
{
    private const string SizeSet = "Size";
    private const string PathSet = "StatePath";
    private const string BytesSet = "State";

    [Parameter(Mandatory = true, Position = 0)]
    [ValidateNotNullOrEmpty]
    public string SocketPath { get; set; } = "";

    [Parameter(Position = 1, ParameterSetName = SizeSet)]
    [ValidateRange(0, long.MaxValue)]
    public long Size { get; set; } = 1 << 20;

    [Parameter(Mandatory = true, ParameterSetName = PathSet)]
    [ValidateNotNullOrEmpty]
    public string? StatePath { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = BytesSet)]
    [AllowEmptyCollection]
    public byte[] State { get; set; } = [];

    [Parameter]
    [ValidatePattern("^[0-7]{3,4}$")]
    public string? SocketMode { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? SocketGroup { get; set; }

    [Parameter]
    public VhostBackendFaultKind Fault { get; set; }

    [Parameter]
    [ValidateRange(0, long.MaxValue)]
    public long FaultByte { get; set; }

    [Parameter]
    public VhostUserRequest FaultRequest { get; set; } = VhostUserRequest.SetDeviceStateFd;

    [Parameter]
    public SwitchParameter OwnDescriptor { get; set; }

    [Parameter]
    public SwitchParameter NoDeviceState { get; set; }

    [Parameter]
    public SwitchParameter NoProtocolFeatures { get; set; }

    protected override void ProcessRecord()
    {
        string path = GetUnresolvedProviderPathFromPSPath(SocketPath);
        if (!ShouldProcess(path, "Start an embedded vhost-user back-end"))
        {
            return;
        }

        var session = RunspaceSession.Current;
        var defaults = new VhostBackendOptions { SocketPath = path, State = NewState() };
        try
        {
            var backend = VhostBackend.Start(defaults with
            {
                Features = NoProtocolFeatures ? defaults.Features & ~VhostFeatures.ProtocolFeatures : defaults.Features,
                ProtocolFeatures = NoDeviceState ? defaults.ProtocolFeatures & ~VhostFeatures.DeviceState : defaults.ProtocolFeatures,
                SocketMode = SocketMode is null ? null : (UnixFileMode)Convert.ToInt32(SocketMode, 8),
                SocketGroup = SocketGroup,
                OwnDescriptor = OwnDescriptor,
                Fault = new VhostBackendFault(Fault, FaultByte, FaultRequest),
            });
            WriteObject(session.AddOwned(new RunningBackend(backend, session)));
        }
        catch (MigrationOpsException e)
        {
            WriteError(ErrorMap.ToErrorRecord(e, path));
        }
    }

    private BackendState NewState() => ParameterSetName switch
    {
        PathSet => new FileBackendState(GetUnresolvedProviderPathFromPSPath(StatePath)),
        BytesSet => new MemoryBackendState(State),
        _ => new PatternBackendState(Size),
    };

    /// <summary>The back-end as the pipeline sees it.</summary>
    private sealed class RunningBackend(VhostBackend backend, RunspaceSession session) : EmbeddedVhostBackend
    {
        public override string SocketPath => backend.Options.SocketPath;

        public override bool IsRunning => backend.IsRunning;

        public override int Connections => backend.Connections;

        public override long BytesSaved => backend.BytesSaved;

        public override long BytesLoaded => backend.BytesLoaded;

        public override string Fault => backend.Options.Fault.Kind.ToString();

        protected override void Dispose(bool disposing)
        {
            session.Release(this);
            backend.Dispose();
        }
    }
}
