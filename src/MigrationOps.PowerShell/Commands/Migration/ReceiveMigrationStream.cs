using System.Management.Automation;
using MigrationOps.Engine.SaveVm;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsCommunications.Receive, "MigrationStream", SupportsShouldProcess = true, DefaultParameterSetName = StartSet)]
[OutputType(typeof(MigrationStreamTransfer), typeof(Job))]
public sealed class ReceiveMigrationStream : MigrationDriverCmdlet
{
    [Parameter(ParameterSetName = StartSet)]
    public SwitchParameter ReturnPath { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    [ValidateNotNullOrEmpty]
    public string? SpoolPath { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    [ValidateNotNull]
    public ScriptBlock? StartDevice { get; set; }

    protected override bool InvokesScripts => base.InvokesScripts || StartDevice is not null;

    private protected override bool Listens => IsSocket(Uri);

    protected override Action<IOperationHost>? Prepare()
    {
        RefuseInJob((nameof(StartDevice), StartDevice));
        return ParameterSetName switch
        {
            ResumeSet => PrepareResume(),
            AbandonSet => Abandoning(Paused<SaveVmTarget>()),
            _ => PrepareStart(),
        };
    }

    private Action<IOperationHost>? PrepareStart()
    {
        RefuseCountWithoutAck();
        RefuseIfPaused<SaveVmTarget>();
        var endpoint = ResolveEndpoint(Uri);
        var security = Security;
        if (endpoint is Engine.Wire.Endpoint.File && (SwitchoverAck || Postcopy || ReturnPath))
        {
            throw new SaveVmException(SaveVmError.InvalidOption, ReturnPath ? $"{endpoint} has no source that could open the return path."
                : $"{endpoint} has no source that waits for -{(SwitchoverAck ? nameof(SwitchoverAck) : nameof(Postcopy))}.");
        }

        if (Postcopy && SpoolPath is not null)
        {
            throw new SaveVmException(SaveVmError.InvalidOption, $"-{nameof(Postcopy)} cannot be used with -{nameof(SpoolPath)}: a file cannot run the device, nor ask for the memory that comes late, and a postcopy stream has no description by which lengths can be checked.");
        }

        var registry = SessionRegistry.Current;
        var session = RunspaceSession.Current;
        var log = new RelayLogger();
        var options = new SaveVmTargetOptions
        {
            Uri = endpoint.ToString(),
            MachineType = MachineType,
            SwitchoverAck = SwitchoverAck,
            SwitchoverAckCount = SwitchoverAckCount,
            Postcopy = Postcopy,
            MultifdChannels = MultifdChannels,
            ReturnPath = endpoint is not Engine.Wire.Endpoint.File,
            RequireReturnPath = ReturnPath,
            SpoolPath = SpoolPath is null ? null : ResolvePath(SpoolPath),
        };
        return IfConfirmed(endpoint.ToString(), "Load the stream into this session's registered devices",
            Work($"Receiving a migration on {endpoint}", registry.Entries, log, (host, scope, meter) =>
            {
                var target = new SaveVmTarget(registry, options with { OnProgress = bytes => meter.Report(bytes, null), StartDevice = Script(host, StartDevice) }, log);
                return Run(session, target, log, () =>
                {
                    var received = SaveVmTransfer.Receive(target, endpoint, security, scope, host.Listening);
                    return received.Sections > 0 ? received : received with { Warnings = [.. received.Warnings, "The stream carried no section: nothing was loaded."] };
                });
            }));
    }

    private Action<IOperationHost>? PrepareResume()
    {
        var paused = Paused<SaveVmTarget>();
        var target = paused.Driver;
        var endpoint = ResolveEndpoint(Uri);
        var security = Security;
        var session = RunspaceSession.Current;
        return IfConfirmed(endpoint.ToString(), "Resume the paused migration",
            Work($"Resuming a migration on {endpoint}", target.Entries, paused.Log, (host, scope, meter) =>
            {
                session.Release(paused);
                return Run(session, target, paused.Log, () => SaveVmTransfer.Resume(target, endpoint, security, scope,
                    target.Options with { Uri = endpoint.ToString(), OnProgress = bytes => meter.Report(bytes, null) }, host.Listening));
            }));
    }
}
