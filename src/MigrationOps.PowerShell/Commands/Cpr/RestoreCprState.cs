using System.Management.Automation;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Wire;
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
            return ShouldProcess(CprExecState.VariableName, "Take the descriptors over") ? host => ReceiveExec(host, session) : null;
        }

        string path = CprUri.Resolve(ResolveEndpoint(Uri));
        return ShouldProcess(Uri, "Listen for a process that hands its descriptors over") ? host => Receive(host, session, path) : null;
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
            using var listener = CprListener.Listen(path, scope);
            _listening.Set();
            var (entries, bytes) = session.Receive(listener, AllowUid);
            CprLog.Received(host.Logger, PeerProcessInfo.Of(session.Incoming!.Peer).ToString(), bytes, entries.Count);
            WriteEntries(host, entries);
        }
        finally
        {
            _listening.Set();
        }
    }

    private static void ReceiveExec(IOperationHost host, CprSession session)
    {
        var (entries, _) = session.ReceiveExec(Environment.GetEnvironmentVariable(CprExecState.VariableName));
        // The number in it belongs to the hand-over no more.
        Environment.SetEnvironmentVariable(CprExecState.VariableName, null);
        WriteEntries(host, entries);
    }

    private static void WriteEntries(IOperationHost host, IReadOnlyList<CprEntry> entries)
    {
        foreach (var entry in entries)
        {
            host.WriteObject(CprFdInspector.Describe(entry));
        }
    }
}
