using System.Management.Automation;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

/// <summary>What sending and receiving a migration stream have in common.</summary>
public abstract class MigrationDriverCmdlet : TransferCmdlet
{
    private bool _invokesScripts;

    [Parameter(Mandatory = true, Position = 0)]
    [ValidateNotNullOrEmpty]
    public string Uri { get; set; } = "";

    [Parameter]
    public SwitchParameter SwitchoverAck { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? MachineType { get; set; }

    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? TlsCredential { get; set; }

    [Parameter]
    public SwitchParameter AllowPlaintext { get; set; }

    protected override object Target => Uri;

    protected override bool InvokesScripts => _invokesScripts;

    /// <summary>The work: a migration with the session's devices, whose scripts run in this pipeline, and with progress.</summary>
    private protected Action<IOperationHost> Work(string activity, Func<IOperationHost, IoScope, ProgressMeter, SaveVmRegistry, MigrationStreamTransfer> run)
    {
        var registry = SessionRegistry.Current;
        ScriptHandlers[] scripts = [.. registry.Entries.Select(e => e.Handlers).OfType<ScriptHandlers>()];
        if (AsJob && scripts.Length > 0)
        {
            throw new SaveVmException(SaveVmError.InvalidHandlers,
                "Script blocks run in the pipeline of their session, and a job has none.", action:
                "Leave -AsJob out, or register .NET handlers. For the background start a thread or process that registers its own.");
        }

        _invokesScripts = scripts.Length > 0;
        return host =>
        {
            using var scope = NewScope(host);
            var meter = new ProgressMeter(host, Uri.GetHashCode(StringComparison.Ordinal) & int.MaxValue, activity);
            Attach(scripts, host);
            try
            {
                host.WriteObject(run(host, scope, meter, registry));
            }
            finally
            {
                Attach(scripts, null);
                meter.Complete();
            }
        };
    }

    private static void Attach(ScriptHandlers[] scripts, IOperationHost? host)
    {
        foreach (var script in scripts)
        {
            script.Attach(host);
        }
    }
}
