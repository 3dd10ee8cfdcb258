using System.Management.Automation;
using MigrationOps.Engine.Cpr;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

/// <summary>A cmdlet on the runspace's registry of descriptors, which needs no time and no thread of its own.</summary>
public abstract class CprRegistryCmdlet : PSCmdlet
{
    /// <summary>The hand-over of the runspace; it is closed with the runspace or the module.</summary>
    internal static CprSession Session
    {
        get
        {
            var owner = RunspaceSession.Current;
            return owner.All<CprSession>().FirstOrDefault() ?? owner.AddOwned(new CprSession());
        }
    }

    /// <summary>What an error is about, if the failure itself does not say.</summary>
    protected virtual object? Target => null;

    /// <summary>Does what the cmdlet is for with one pipeline object.</summary>
    protected abstract void Process();

    protected sealed override void ProcessRecord()
    {
        try
        {
            Process();
        }
        catch (MigrationOpsException e)
        {
            WriteError(ErrorMap.ToErrorRecord(e, Target));
        }
    }
}
