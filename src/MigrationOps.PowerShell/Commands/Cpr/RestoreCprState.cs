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

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = UriSet)]
    [ValidateNotNullOrEmpty]
    public string Uri { get; set; } = "";

    [Parameter(ParameterSetName = UriSet)]
    [ValidateNotNullOrEmpty]
    public uint[] AllowUid { get; set; } = [.. CprListener.DefaultUsers];

    [Parameter(Mandatory = true, ParameterSetName = ExecSet)]
    public SwitchParameter ExecState { get; set; }

    protected override object Target => ParameterSetName == UriSet ? Uri : CprExecState.VariableName;

    private protected override bool Listens => ParameterSetName == UriSet;

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

    private void Receive(IOperationHost host, CprSession session, string path)
    {
        using var scope = NewScope(host);
        using var listener = CprListener.Listen(path, scope, AllowUid);
        host.Listening();
        WriteEntries(host, CprTransfers.Receive(session, listener, AllowUid, host.Logger));
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
