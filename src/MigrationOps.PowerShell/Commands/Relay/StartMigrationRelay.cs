using System.Collections;
using System.Management.Automation;
using System.Security;
using MigrationOps.Engine.Relay;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Start, "MigrationRelay", SupportsShouldProcess = true)]
[OutputType(typeof(RelayedMigration))]
public sealed class StartMigrationRelay : PSCmdlet
{
    [Parameter(Mandatory = true, Position = 0)]
    [ValidateNotNullOrEmpty]
    public string Uri { get; set; } = "";

    [Parameter(Mandatory = true, Position = 1)]
    [ValidateNotNullOrEmpty]
    public string Target { get; set; } = "";

    [Parameter]
    [ValidateRange(1024, long.MaxValue)]
    public long? MaxBandwidth { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Archive { get; set; }

    [Parameter]
    [ValidateNotNull]
    public Hashtable[] Fault { get; set; } = [];

    [Parameter]
    [Seconds]
    [ValidateNotNull]
    public TimeSpan Timeout { get; set; } = TransferScope.DefaultTimeout;

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? TlsCredential { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? TargetTlsCredential { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? TlsHostName { get; set; }

    [Parameter]
    [ValidateNotNull]
    public SecureString? TlsPassphrase { get; set; }

    [Parameter]
    public SwitchParameter AllowPlaintext { get; set; }

    protected override void BeginProcessing() => SecondsAttribute.CheckTimeout(this, Timeout);

    protected override void ProcessRecord()
    {
        try
        {
            var options = new RelayOptions
            {
                Listen = Resolve(Uri),
                Target = Resolve(Target),
                ListenSecurity = Security(TlsCredential, null),
                TargetSecurity = Security(TargetTlsCredential ?? TlsCredential, TlsHostName),
                BytesPerSecond = MaxBandwidth,
                Archive = Archive is null ? null : GetUnresolvedProviderPathFromPSPath(Archive),
                Faults = [.. Fault.Select(RelayFaultReader.Read)],
                Timeout = Timeout,
            };
            if (ShouldProcess(options.Listen.ToString(), $"Relay a migration to {options.Target}"))
            {
                var session = RunspaceSession.Current;
                WriteObject(session.AddOwned(new RunningRelay(MigrationRelay.Start(options), this, session)));
            }
        }
        catch (MigrationOpsException e)
        {
            WriteError(ErrorMap.ToErrorRecord(e, Uri));
        }
    }

    private TransportSecurity Security(string? folder, string? hostName)
        => new(folder is null ? null : GetUnresolvedProviderPathFromPSPath(folder), AllowPlaintext, hostName, TlsPassphrase);

    private Endpoint Resolve(string uri) => ResolveAs(uri, this);

    private static Endpoint ResolveAs(string uri, PSCmdlet cmdlet) => Endpoint.Parse(uri) switch
    {
        Endpoint.Unix { Path: not ['@', ..] } unix => new Endpoint.Unix(cmdlet.GetUnresolvedProviderPathFromPSPath(unix.Path)),
        Endpoint.File or Endpoint.Fd => throw new WireException(WireError.UnsupportedEndpoint, $"A relay connects sockets, and '{uri}' is none.", action: "Give unix:PATH or tcp:HOST:PORT."),
        var other => other,
    };

    /// <summary>The relay as the pipeline sees it.</summary>
    private sealed class RunningRelay(MigrationRelay relay, PSCmdlet cmdlet, RunspaceSession session) : RelayedMigration
    {
        public override string Uri => relay.Endpoint.ToString();

        public override string LibvirtUri => relay.Endpoint switch
        {
            Endpoint.Tcp => $"tcp://{Uri["tcp:".Length..]}",
            var unix => $"unix://{unix.ToString()["unix:".Length..]}",
        };

        public override string Target
        {
            get => relay.Target.ToString();
            set => relay.Target = ResolveAs(value, cmdlet);
        }

        public override string Phase => relay.Status.Phase.ToString();

        public override bool IsRunning => relay.Status.IsRunning;

        public override bool Delivered => relay.Status.Delivered;

        public override bool Acknowledged => relay.Status.Acknowledged;

        public override long? TargetResult => relay.Status.TargetSaid;

        public override int SwitchoverAcks => relay.Status.SwitchoverAcks;

        public override int ResumeAcks => relay.Status.ResumeAcks;

        public override string? Machine => relay.Status.Machine;

        public override long Bytes => relay.Status.Bytes;

        public override RelayedChannel[] Channels
            => [.. relay.Status.Channels.Select(c => new RelayedChannel { Name = c.Name, Bytes = c.Bytes, ReturnBytes = c.ReturnBytes, Elements = c.Elements })];

        public override string? Archive => relay.Options.Archive;

        public override string[] Struck => [.. relay.Status.Struck.Select(fault => fault.ToString())];

        public override string[] Warnings => [.. relay.Status.Warnings];

        public override string? Error => relay.Status.Failure?.Message;

        public override string? ErrorId => (relay.Status.Failure as MigrationOpsException)?.ErrorId;

        public override string? RecommendedAction => (relay.Status.Failure as MigrationOpsException)?.RecommendedAction;

        public override void Release() => relay.Release();

        public override void Break() => relay.Break();

        public override void Blackhole() => relay.Blackhole();

        protected override void Dispose(bool disposing)
        {
            session.Release(this);
            relay.Dispose();
        }
    }
}
