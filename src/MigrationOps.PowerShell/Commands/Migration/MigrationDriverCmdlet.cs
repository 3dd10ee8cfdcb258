using System.Management.Automation;
using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

/// <summary>What sending and receiving a migration stream have in common.</summary>
public abstract class MigrationDriverCmdlet : NetworkTransferCmdlet
{
    protected const string StartSet = "Start";
    protected const string ResumeSet = "Resume";
    protected const string AbandonSet = "Abandon";

    private bool _invokesScripts;

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = StartSet)]
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = ResumeSet)]
    [ValidateNotNullOrEmpty]
    public string Uri { get; set; } = "";

    [Parameter(Mandatory = true, ParameterSetName = ResumeSet)]
    public SwitchParameter Resume { get; set; }

    [Parameter(Mandatory = true, ParameterSetName = AbandonSet)]
    public SwitchParameter Abandon { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    public SwitchParameter Postcopy { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    public SwitchParameter SwitchoverAck { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    public SwitchoverAckCount SwitchoverAckCount { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    [ValidateRange(0, SaveVmSourceOptions.MostMultifdChannels)]
    public int MultifdChannels { get; set; }

    [Parameter(ParameterSetName = StartSet)]
    [ValidateNotNullOrEmpty]
    public string? MachineType { get; set; }

    protected override object Target => Uri.Length > 0 ? Uri : MyInvocation.MyCommand.Name;

    protected override bool InvokesScripts => _invokesScripts;

    private protected void RefuseCountWithoutAck()
    {
        if (!SwitchoverAck && MyInvocation.BoundParameters.ContainsKey(nameof(SwitchoverAckCount)))
        {
            throw new SaveVmException(SaveVmError.InvalidOption, $"-{nameof(SwitchoverAckCount)} can be used only with -{nameof(SwitchoverAck)}.");
        }
    }

    /// <summary>The work: a migration of these devices, whose scripts run in this pipeline, and with progress.</summary>
    private protected Action<IOperationHost> Work(string activity, IReadOnlyList<SaveVmEntry> entries, RelayLogger log,
        Func<IOperationHost, TransferScope, ProgressMeter, MigrationStreamTransfer?> run)
    {
        ScriptHandlers[] scripts = [.. entries.Select(e => e.Handlers).OfType<ScriptHandlers>()];
        if (AsJob && scripts.Length > 0)
        {
            throw new SaveVmException(SaveVmError.InvalidHandlers,
                "Script blocks run in the pipeline of their session, and a job has none.", action:
                "Leave -AsJob out, or register .NET handlers. For the background start a thread or process that registers its own.");
        }

        _invokesScripts = scripts.Length > 0;
        return host => host.WithProgress(activity, meter =>
        {
            using var scope = NewScope(host);
            log.Target = host.Logger;
            Attach(scripts, host);
            try
            {
                if (run(host, scope, meter) is { } result)
                {
                    host.WriteObject(result);
                }
            }
            finally
            {
                Attach(scripts, null);
            }
        });
    }

    /// <summary>The work of -Abandon, and what comes after it.</summary>
    private protected Action<IOperationHost>? Abandoning<TDriver>(PausedMigration<TDriver> paused, Action<IOperationHost>? after = null)
        where TDriver : class, IMigrationDriver
    {
        var session = RunspaceSession.Current;
        return IfConfirmed("the paused migration", "Give up what has not been transferred, and clean up", Work("Giving up a migration", paused.Driver.Entries, paused.Log, (host, scope, _) =>
        {
            session.Release(paused);
            paused.Driver.Abandon(scope);
            after?.Invoke(host);
            return null;
        }));
    }

    /// <summary>The session's paused migration, which must be there.</summary>
    private protected static PausedMigration<TDriver> Paused<TDriver>()
        where TDriver : class, IMigrationDriver
        => PausedMigration<TDriver>.Of(RunspaceSession.Current) ?? throw new SaveVmException(SaveVmError.WrongPhase, "No migration of this session is paused.",
            action: "Resume it in the session in which it was started.");

    /// <summary>Runs a driver, which the session keeps should it end paused.</summary>
    private protected static MigrationStreamTransfer Run<TDriver>(RunspaceSession session, TDriver driver, RelayLogger log, Func<MigrationStreamTransfer> run)
        where TDriver : class, IMigrationDriver
        => PausedMigration<TDriver>.Run(session, driver, log, run);

    /// <summary>A new migration must not replace a paused one.</summary>
    private protected static void RefuseIfPaused<TDriver>()
        where TDriver : class, IMigrationDriver
    {
        if (PausedMigration<TDriver>.Of(RunspaceSession.Current) is not null)
        {
            throw new SaveVmException(SaveVmError.WrongPhase, "A migration of this session is paused, and keeps the state of its devices.");
        }
    }

    /// <summary>A script block as a callback; in a job there is no pipeline to run it.</summary>
    private protected static Action? Script(IOperationHost host, ScriptBlock? script) => script is null ? null : () => host.Invoke(() => script.Invoke());

    private protected void RefuseInJob(params ReadOnlySpan<(string Name, ScriptBlock? Script)> scripts)
    {
        foreach (var (name, script) in scripts)
        {
            if (AsJob && script is not null)
            {
                throw new SaveVmException(SaveVmError.InvalidHandlers, $"-{name} runs in the pipeline of its session, and a job has none.",
                    action: "Leave -AsJob out.");
            }
        }
    }

    private static void Attach(ScriptHandlers[] scripts, IOperationHost? host)
    {
        foreach (var script in scripts)
        {
            script.Attach(host);
        }
    }
}
