using System.Globalization;
using System.Management.Automation;
using MigrationOps.Engine.Devices;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Vfio;
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
    private const string VfioSet = "VfioDevice";
    private const string DirectorySet = "Directory";
    private const string FileSet = "StateFile";

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = ScriptSet)]
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = ObjectSet)]
    [Parameter(Position = 0, ParameterSetName = BackendSet)]
    [Parameter(Position = 0, ParameterSetName = VfioSet)]
    [Parameter(Position = 0, ParameterSetName = DirectorySet)]
    [Parameter(Position = 0, ParameterSetName = FileSet)]
    [ValidateNotNullOrEmpty]
    public string? IdStr { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = BackendSet)]
    [ValidateNotNullOrEmpty]
    public string? VhostBackend { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = VfioSet)]
    [ValidateNotNullOrEmpty]
    public string? VfioDevice { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = DirectorySet)]
    [ValidateNotNullOrEmpty]
    public string? Directory { get; set; }

    [Parameter(ParameterSetName = DirectorySet)]
    [ValidateNotNullOrEmpty]
    public string[] Include { get; set; } = [];

    [Parameter(Mandatory = true, ParameterSetName = FileSet)]
    [ValidateNotNullOrEmpty]
    public string? StateFile { get; set; }

    [Parameter(ParameterSetName = BackendSet)]
    [Seconds]
    public TimeSpan Timeout { get; set; } = TransferScope.DefaultTimeout;

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

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string[] Alias { get; set; } = [];

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
    public ScriptBlock? SaveCompleteThread { get; set; }

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
    public ScriptBlock? LoadStateBuffer { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? LoadCleanup { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? SwitchoverAckNeeded { get; set; }

    [Parameter(ParameterSetName = ScriptSet)]
    [ValidateNotNull]
    public ScriptBlock? SwitchoverStart { get; set; }

    protected override void BeginProcessing() => SecondsAttribute.CheckTimeout(this, Timeout);

    protected override void ProcessRecord()
    {
        string idStr = IdStr ?? DefaultIdStr();
        if (!ShouldProcess(idStr, "Register a device for the migrations of this session"))
        {
            return;
        }

        try
        {
            var entry = SessionRegistry.Current.Register(idStr, InstanceId, VersionId, NewHandlers(), Priority, [.. Alias.Select(ToAlias)]);
            WriteObject(SessionRegistry.Describe(entry));
        }
        catch (MigrationOpsException e)
        {
            WriteError(ErrorMap.ToErrorRecord(e, idStr));
        }
    }

    private ISaveVmHandlers NewHandlers() => ParameterSetName switch
    {
        ObjectSet => Handlers!,
        BackendSet => new VhostBackendDevice(GetUnresolvedProviderPathFromPSPath(VhostBackend), Timeout),
        VfioSet => NewVfioDevice(VfioDevices.Resolve(VfioDevice!, GetUnresolvedProviderPathFromPSPath)),
        DirectorySet => new DirectoryDevice(GetUnresolvedProviderPathFromPSPath(Directory), Include),
        FileSet => new StateFileDevice(GetUnresolvedProviderPathFromPSPath(StateFile)),
        _ => new ScriptHandlers(Scripts()),
    };

    // A device is opened when a migration begins, and may be another one of that name by then.
    private static VfioSectionDevice NewVfioDevice(string name) => new(() => VfioHost.ThisMachine.Open(name));

    // As devices are written everywhere: "idstr", or "idstr/instance".
    private static SaveVmAlias ToAlias(string name)
        => name.LastIndexOf('/') is > 0 and var slash && uint.TryParse(name.AsSpan(slash + 1), NumberStyles.None, CultureInfo.InvariantCulture, out uint instance)
            ? new SaveVmAlias(name[..slash], instance)
            : new SaveVmAlias(name, 0);

    // What the device is, not where it is: its section has to have the same name on both hosts.
    private string DefaultIdStr() => ParameterSetName switch
    {
        VfioSet => "vfio",
        DirectorySet => "directory",
        FileSet => "state-file",
        _ => "vhost-user-backend",
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
            (SaveVmHandler.SaveLiveCompletePrecopyThread, SaveCompleteThread), (SaveVmHandler.LoadStateBuffer, LoadStateBuffer),
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
