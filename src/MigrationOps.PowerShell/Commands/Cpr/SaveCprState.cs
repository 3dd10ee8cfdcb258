using System.Diagnostics;
using System.Management.Automation;
using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Wire;
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
            UriSet => host => Send(host, session, path, entries),
            PathSet => host => Describe(host, session, path, entries),
            _ => host => Expose(host, session, entries),
        };
        string what = ParameterSetName == PathSet ? "Describe" : "Hand over";
        return ShouldProcess((string)Target, $"{what} {entries.Count} descriptors") ? work : null;
    }

    private void Send(IOperationHost host, CprSession session, string path, IReadOnlyList<CprEntry> entries)
    {
        using var scope = NewScope(host);
        long start = Stopwatch.GetTimestamp();
        var sender = session.Send(path, entries, Layout, Force, scope);
        try
        {
            string peer = PeerProcessInfo.Of(sender.Peer).ToString();
            CprLog.Sent(host.Logger, peer, sender.ByteCount, entries.Count);
            if (!NoWait)
            {
                sender.WaitForTakeover(scope.StartDeadline());
            }

            host.WriteObject(new CprStateTransfer
            {
                Peer = peer,
                Uri = Uri,
                Entries = entries.Count,
                Bytes = sender.ByteCount,
                Duration = Stopwatch.GetElapsedTime(start),
                TakenOver = !NoWait,
            });
        }
        finally
        {
            // Taken over or not, this target needs us no more; after a failure another one may be tried.
            if (!NoWait)
            {
                session.CloseTarget();
            }
        }
    }

    private void Describe(IOperationHost host, CprSession session, string path, IReadOnlyList<CprEntry> entries)
    {
        using var scope = NewScope(host);
        long start = Stopwatch.GetTimestamp();
        long bytes = CprDescription.Write(path, entries.Select(CprFdInspector.Describe), session.VfioDevices, scope);
        host.WriteObject(new CprStateTransfer
        {
            Path = path,
            Entries = entries.Count,
            Bytes = bytes,
            Duration = Stopwatch.GetElapsedTime(start),
        });
    }

    private void Expose(IOperationHost host, CprSession session, IReadOnlyList<CprEntry> entries)
    {
        long start = Stopwatch.GetTimestamp();
        var state = session.SendExec(entries, Force);
        host.WriteObject(new CprStateTransfer
        {
            Uri = $"{CprExecState.VariableName}={state.VariableValue}",
            Entries = entries.Count,
            Bytes = state.ByteCount,
            Duration = Stopwatch.GetElapsedTime(start),
        });
    }
}
