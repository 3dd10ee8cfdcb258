using System.Management.Automation;
using MigrationOps.Engine.SaveVm;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommunications.Send, "MigrationStream", SupportsShouldProcess = true)]
[OutputType(typeof(MigrationStreamTransfer), typeof(MigrationRound), typeof(Job))]
public sealed class SendMigrationStream : MigrationDriverCmdlet
{
    [Parameter]
    [ValidateRange(1, long.MaxValue)]
    public long? MaxBandwidth { get; set; }

    [Parameter]
    [Seconds]
    public TimeSpan DowntimeLimit { get; set; } = new SaveVmSourceOptions().DowntimeLimit;

    [Parameter]
    public SwitchParameter ReturnPath { get; set; }

    [Parameter]
    [ValidateRange(1, int.MaxValue)]
    public int? MaxRounds { get; set; }

    [Parameter]
    [Seconds]
    public TimeSpan? MaxDuration { get; set; }

    [Parameter]
    public SwitchParameter NoDescription { get; set; }

    [Parameter]
    [ValidateNotNull]
    public ScriptBlock? StopDevice { get; set; }

    [Parameter]
    [ValidateNotNull]
    public ScriptBlock? ResumeDevice { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    protected override bool InvokesScripts => base.InvokesScripts || (StopDevice ?? ResumeDevice) is not null;

    protected override Action<IOperationHost>? Prepare()
    {
        if (DowntimeLimit < TimeSpan.Zero || MaxDuration <= TimeSpan.Zero)
        {
            throw new SaveVmException(SaveVmError.InvalidOption,
                $"-{(DowntimeLimit < TimeSpan.Zero ? nameof(DowntimeLimit) : nameof(MaxDuration))} is not a time that a migration can have.");
        }

        if (AsJob && (StopDevice ?? ResumeDevice) is not null)
        {
            throw new SaveVmException(SaveVmError.InvalidHandlers, "-StopDevice and -ResumeDevice run in the pipeline of their session, and a job has none.",
                action: "Leave -AsJob out.");
        }

        var endpoint = ResolveEndpoint(Uri);
        var security = Security(TlsCredential, AllowPlaintext);
        var options = new SaveVmSourceOptions
        {
            MachineType = MachineType ?? new SaveVmSourceOptions().MachineType,
            MaxBandwidth = MaxBandwidth,
            DowntimeLimit = DowntimeLimit,
            ReturnPath = ReturnPath || SwitchoverAck,
            SwitchoverAck = SwitchoverAck,
            MaxRounds = MaxRounds,
            MaxDuration = MaxDuration,
            Description = !NoDescription,
        };
        return ShouldProcess(endpoint.ToString(), "Send the state of this session's registered devices")
            ? Work($"Sending a migration to {endpoint}", (host, scope, meter, registry) => SaveVmTransfer.Send(registry, endpoint, security, options with
            {
                OnRound = PassThru ? host.WriteObject : null,
                OnProgress = (sent, pending) => meter.Report(sent, sent + pending),
                StopDevice = Script(host, StopDevice),
                ResumeDevice = Script(host, ResumeDevice),
            }, scope, host.Logger))
            : null;
    }

    private static Action? Script(IOperationHost host, ScriptBlock? script) => script is null ? null : () => host.Invoke(() => script.Invoke());
}
