using System.Management.Automation;
using MigrationOps.Engine.SaveVm;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommunications.Send, "MigrationStream", SupportsShouldProcess = true, DefaultParameterSetName = StartSet)]
[OutputType(typeof(MigrationStreamTransfer), typeof(MigrationRound), typeof(Job))]
public sealed class SendMigrationStream : MigrationDriverCmdlet
{
    [Parameter(ParameterSetName = StartSet)]
    [ValidateRange(1, long.MaxValue)]
    public long? MaxBandwidth { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    [Parameter(ParameterSetName = ResumeSet)]
    [Seconds]
    public TimeSpan DowntimeLimit { get; set; } = new SaveVmSourceOptions().DowntimeLimit;

    [Parameter(ParameterSetName = StartSet)]
    public SwitchParameter ReturnPath { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    [ValidateRange(0, int.MaxValue)]
    public int PostcopyAfter { get; set; } = new SaveVmSourceOptions().PostcopyAfter;

    [Parameter(ParameterSetName = StartSet)]
    [Parameter(ParameterSetName = ResumeSet)]
    [ValidateRange(1, long.MaxValue)]
    public long? MaxPostcopyBandwidth { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    [ValidateRange(1, int.MaxValue)]
    public int? MaxRounds { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    [Seconds]
    public TimeSpan? MaxDuration { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    public SwitchParameter NoDescription { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    [ValidateNotNull]
    public ScriptBlock? StopDevice { get; set; }

    [Parameter]
    [ValidateNotNull]
    public ScriptBlock? ResumeDevice { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    [Parameter(ParameterSetName = ResumeSet)]
    public SwitchParameter PassThru { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    [Parameter(ParameterSetName = ResumeSet)]
    [ValidateNotNullOrEmpty]
    public string? TlsHostName { get; set; }

    private protected override string? ExpectedHostName => TlsHostName;

    protected override bool InvokesScripts => base.InvokesScripts || (StopDevice ?? ResumeDevice) is not null;

    protected override Action<IOperationHost>? Prepare()
    {
        RefuseInJob((nameof(StopDevice), StopDevice), (nameof(ResumeDevice), ResumeDevice));
        return ParameterSetName switch
        {
            ResumeSet => PrepareResume(),
            AbandonSet => PrepareAbandon(),
            _ => PrepareStart(),
        };
    }

    private Action<IOperationHost>? PrepareStart()
    {
        RefuseCountWithoutAck();
        if (DowntimeLimit < TimeSpan.Zero || MaxDuration <= TimeSpan.Zero)
        {
            throw new SaveVmException(SaveVmError.InvalidOption,
                DowntimeLimit < TimeSpan.Zero ? $"-{nameof(DowntimeLimit)} must not be negative." : $"-{nameof(MaxDuration)} must be longer than zero.");
        }

        if (!Postcopy && (MyInvocation.BoundParameters.ContainsKey(nameof(PostcopyAfter)) || MaxPostcopyBandwidth is not null))
        {
            throw new SaveVmException(SaveVmError.InvalidOption, $"-{nameof(PostcopyAfter)} and -{nameof(MaxPostcopyBandwidth)} can be used only with -{nameof(Postcopy)}.");
        }

        RefuseIfPaused<SaveVmSource>();
        var endpoint = ResolveEndpoint(Uri);
        var security = Security;
        var registry = SessionRegistry.Current;
        if (registry.Entries.Count == 0)
        {
            WriteWarning("No handler is registered in this session, so the stream carries no device. Register-SaveVMHandler adds one.");
        }

        var session = RunspaceSession.Current;
        var options = new SaveVmSourceOptions
        {
            Uri = endpoint.ToString(),
            MachineType = MachineType ?? new SaveVmSourceOptions().MachineType,
            MaxBandwidth = MaxBandwidth,
            DowntimeLimit = DowntimeLimit,
            ReturnPath = ReturnPath || SwitchoverAck || Postcopy,
            SwitchoverAck = SwitchoverAck,
            SwitchoverAckCount = SwitchoverAckCount,
            Postcopy = Postcopy,
            PostcopyAfter = PostcopyAfter,
            MaxPostcopyBandwidth = MaxPostcopyBandwidth,
            MultifdChannels = MultifdChannels,
            MaxRounds = MaxRounds,
            MaxDuration = MaxDuration,
            // No peer slows a growing file down, and it would fill the disk.
            MaxStall = endpoint is Engine.Wire.Endpoint.File && MaxRounds is null && MaxDuration is null
                && Timeout != System.Threading.Timeout.InfiniteTimeSpan ? Timeout : null,
            Description = !NoDescription,
        };
        var log = new RelayLogger();
        return IfConfirmed(endpoint.ToString(), "Send the state of this session's registered devices",
            Work($"Sending a migration to {endpoint}", registry.Entries, log, (host, scope, meter) =>
            {
                var source = new SaveVmSource(registry, Bind(options, host, meter) with { StopDevice = Script(host, StopDevice) }, log);
                return Run(session, source, log, () => SaveVmTransfer.Send(source, endpoint, security, scope));
            }));
    }

    private Action<IOperationHost>? PrepareResume()
    {
        var paused = Paused<SaveVmSource>();
        var source = paused.Driver;
        var endpoint = ResolveEndpoint(Uri);
        var security = Security;
        var session = RunspaceSession.Current;
        var options = source.Options with { Uri = endpoint.ToString(), DowntimeLimit = DowntimeLimit, MaxPostcopyBandwidth = MaxPostcopyBandwidth };
        return IfConfirmed(endpoint.ToString(), "Resume the paused migration",
            Work($"Resuming a migration to {endpoint}", source.Entries, paused.Log, (host, scope, meter) =>
            {
                session.Release(paused);
                return Run(session, source, paused.Log, () => SaveVmTransfer.Resume(source, endpoint, security, scope, Bind(options, host, meter)));
            }));
    }

    private Action<IOperationHost>? PrepareAbandon()
    {
        var paused = Paused<SaveVmSource>();
        return Abandoning(paused, host => Script(host, ResumeDevice)?.Invoke());
    }

    private SaveVmSourceOptions Bind(SaveVmSourceOptions options, IOperationHost host, ProgressMeter meter) => options with
    {
        OnRound = PassThru ? host.WriteObject : null,
        OnProgress = (sent, pending) => meter.Report(sent, sent + pending),
        ResumeDevice = Script(host, ResumeDevice),
    };
}
