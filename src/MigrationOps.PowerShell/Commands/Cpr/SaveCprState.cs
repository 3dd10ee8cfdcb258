using System.Management.Automation;
using MigrationOps.Engine.Cpr;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsData.Save, "CprState", SupportsShouldProcess = true, DefaultParameterSetName = UriSet)]
[OutputType(typeof(CprStateTransfer), typeof(Job))]
public sealed class SaveCprState : TransferCmdlet
{
    private const string UriSet = "Uri";
    private const string PathSet = "Path";
    private const string ExecSet = "ExecState";

    private readonly List<CprFd> _chosen = [];

    [Parameter(ValueFromPipeline = true)]
    [AllowNull]
    public CprFd? InputObject { get; set; }

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = UriSet)]
    [ValidateNotNullOrEmpty]
    public string Uri { get; set; } = "";

    [Parameter(Mandatory = true, ParameterSetName = PathSet)]
    [ValidateNotNullOrEmpty]
    public string Path { get; set; } = "";

    [Parameter(Mandatory = true, ParameterSetName = ExecSet)]
    public SwitchParameter ExecState { get; set; }

    [Parameter(ParameterSetName = UriSet)]
    public CprStateLayout Layout { get; set; }

    [Parameter(ParameterSetName = UriSet)]
    public SwitchParameter NoWait { get; set; }

    [Parameter(ParameterSetName = UriSet)]
    [Parameter(ParameterSetName = ExecSet)]
    public SwitchParameter Force { get; set; }

    protected override object Target => ParameterSetName switch
    {
        UriSet => Uri,
        PathSet => Path,
        _ => CprExecState.VariableName,
    };

    // A set is handed over as a whole, so the pipeline is collected first.
    protected override Action<IOperationHost>? Prepare()
    {
        if (InputObject is not null)
        {
            _chosen.Add(InputObject);
        }

        return null;
    }

    protected override Action<IOperationHost>? PrepareEnd()
    {
        // An empty pipeline is an empty set, not everything.
        bool all = !MyInvocation.ExpectingInput && _chosen.Count == 0;
        var session = CprRegistryCmdlet.Session;
        var entries = all ? session.Registry.Entries : session.Choose(_chosen);
        string path = ParameterSetName switch
        {
            UriSet => CprUri.Resolve(ResolveEndpoint(Uri)),
            PathSet => ResolvePath(Path),
            _ => "",
        };
        Action<IOperationHost> work = ParameterSetName switch
        {
            UriSet => host =>
            {
                using var scope = NewScope(host);
                host.WriteObject(CprTransfers.Send(session, path, Uri, entries, new CprSendOptions { Layout = Layout, AllowLoss = Force, WaitForTakeover = !NoWait }, scope, host.Logger));
            }
            ,
            PathSet => host =>
            {
                using var scope = NewScope(host);
                host.WriteObject(CprTransfers.Describe(session, path, entries, scope));
            }
            ,
            _ => host => host.WriteObject(CprTransfers.Expose(session, entries, Force)),
        };
        string what = ParameterSetName == PathSet ? "Describe" : "Hand over";
        return IfConfirmed((string)Target, $"{what} {entries.Count} descriptors", work);
    }
}
