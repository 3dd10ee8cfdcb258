using System.Management.Automation;
using MigrationOps.Engine.Cpr;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

[Cmdlet(VerbsData.Restore, "CprState", SupportsShouldProcess = true, DefaultParameterSetName = UriSet)]
[OutputType(typeof(CprFd), typeof(Job))]
public sealed class RestoreCprState : TransferCmdlet
{
    private const string UriSet = "Uri";
    private const string ExecSet = "ExecState";

    private readonly ManualResetEventSlim _listening = new();

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = UriSet)]
    [ValidateNotNullOrEmpty]
    public string Uri { get; set; } = "";

    [Parameter(ParameterSetName = UriSet)]
    [ValidateNotNullOrEmpty]
    public uint[] AllowUid { get; set; } = [.. CprListener.DefaultUsers];

    [Parameter(Mandatory = true, ParameterSetName = ExecSet)]
    public SwitchParameter ExecState { get; set; }

    protected override object Target => ParameterSetName == UriSet ? Uri : CprExecState.VariableName;

    protected override Action<IOperationHost>? Prepare()
    {
        var session = CprRegistryCmdlet.Session;
        if (ParameterSetName == ExecSet)
        {
            return IfConfirmed(CprExecState.VariableName, "Take the descriptors over", host => ReceiveExec(host, session));
        }

        string path = CprUri.Resolve(ResolveEndpoint(Uri));
        return IfConfirmed(Uri, "Listen for a process that hands its descriptors over", host => Receive(host, session, path));
    }

    // The next command of a runbook tells the old process to migrate: the socket must be there by then.
    protected override void Execute(Action<IOperationHost> work)
    {
        base.Execute(work);
        if (AsJob)
        {
            _listening.Wait();
        }
    }

    private void Receive(IOperationHost host, CprSession session, string path)
    {
        try
        {
            using var scope = NewScope(host);
            using var listener = CprListener.Listen(path, scope, AllowUid);
            _listening.Set();
            WriteEntries(host, CprTransfers.Receive(session, listener, AllowUid, host.Logger));
        }
        finally
        {
            _listening.Set();
        }
    }

    private static void ReceiveExec(IOperationHost host, CprSession session)
    {
        WriteEntries(host, CprTransfers.ReceiveExec(session));
    }

    private static void WriteEntries(IOperationHost host, IReadOnlyList<CprEntry> entries)
    {
        foreach (var entry in entries)
        {
            host.WriteObject(CprFdInspector.Describe(entry));
        }
    }
}
