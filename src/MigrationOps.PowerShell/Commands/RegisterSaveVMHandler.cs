using System.Management.Automation;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsLifecycle.Register, "SaveVMHandler", SupportsShouldProcess = true, DefaultParameterSetName = ScriptSet)]
[OutputType(typeof(SaveVmRegistration))]
public sealed class RegisterSaveVMHandler : PSCmdlet
{
    private const string ScriptSet = "ScriptBlock";
    private const string ObjectSet = "Handlers";
    private const string BackendSet = "VhostBackend";

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = ScriptSet)]
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = ObjectSet)]
    [Parameter(Position = 0, ParameterSetName = BackendSet)]
    [ValidateNotNullOrEmpty]
    public string IdStr { get; set; } = "vhost-user-backend";

    [Parameter(Mandatory = true, ParameterSetName = BackendSet)]
    [ValidateNotNullOrEmpty]
    public string? VhostBackend { get; set; }

    [Parameter(ParameterSetName = BackendSet)]
    [Seconds]
    public TimeSpan Timeout { get; set; } = IoScope.DefaultTimeout;

    [Parameter(Mandatory = true, Position = 1, ParameterSetName = ObjectSet)]
    [ValidateNotNull]
    public ISaveVmHandlers? Handlers { get; set; }

    [Parameter]
    [ValidateRange(SaveVmRegistry.AnyInstance, uint.MaxValue - 1L)]
    public long InstanceId { get; set; } = SaveVmRegistry.AnyInstance;

    [Parameter]
    [ValidateRange(0, int.MaxValue)]
    public int VersionId { get; set; } = 1;

    [Parameter]
    public int Priority { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? SaveState { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? SavePrepare { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? SaveSetup { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? SaveIterate { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? PendingEstimate { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? PendingExact { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? IsActive { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? IsActiveIterate { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? SaveComplete { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? HasPostcopy { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? SaveCompletePostcopy { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? ResumePrepare { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? SaveCleanup { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? LoadSetup { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? LoadState { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? LoadCleanup { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? SwitchoverAckNeeded { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? SwitchoverStart { get; set; }

    protected override void ProcessRecord()
    {
        if (!ShouldProcess(IdStr, "Register a device for the migrations of this session"))
        {
            return;
        }

        try
        {
            var entry = SessionRegistry.Current.Register(IdStr, InstanceId, VersionId, NewHandlers(), Priority);
            WriteObject(SessionRegistry.Describe(entry));
        }
        catch (MigrationOpsException e)
        {
            WriteError(ErrorMap.ToErrorRecord(e, IdStr));
        }
    }

    private ISaveVmHandlers NewHandlers() => ParameterSetName switch
    {
        ObjectSet => Handlers!,
        BackendSet => new VhostBackendDevice(GetUnresolvedProviderPathFromPSPath(VhostBackend), Timeout),
        _ => new ScriptHandlers(Scripts()),
    };

    private Dictionary<SaveVmHandler, ScriptBlock> Scripts()
    {
        (SaveVmHandler, ScriptBlock?)[] all =
        [
            (SaveVmHandler.SaveState, SaveState), (SaveVmHandler.SavePrepare, SavePrepare), (SaveVmHandler.SaveSetup, SaveSetup),
            (SaveVmHandler.SaveLiveIterate, SaveIterate), (SaveVmHandler.StatePendingEstimate, PendingEstimate),
            (SaveVmHandler.StatePendingExact, PendingExact), (SaveVmHandler.IsActive, IsActive),
            (SaveVmHandler.IsActiveIterate, IsActiveIterate), (SaveVmHandler.SaveLiveCompletePrecopy, SaveComplete),
            (SaveVmHandler.HasPostcopy, HasPostcopy), (SaveVmHandler.SaveLiveCompletePostcopy, SaveCompletePostcopy),
            (SaveVmHandler.ResumePrepare, ResumePrepare),
            (SaveVmHandler.SaveCleanup, SaveCleanup), (SaveVmHandler.LoadSetup, LoadSetup), (SaveVmHandler.LoadState, LoadState),
            (SaveVmHandler.LoadCleanup, LoadCleanup), (SaveVmHandler.SwitchoverAckNeeded, SwitchoverAckNeeded),
            (SaveVmHandler.SwitchoverStart, SwitchoverStart),
        ];
        var scripts = new Dictionary<SaveVmHandler, ScriptBlock>();
        foreach (var (handler, script) in all)
        {
            if (script is not null)
            {
                scripts.Add(handler, script);
            }
        }

        return scripts;
    }
}
