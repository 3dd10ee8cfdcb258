using System.Management.Automation;
using MigrationOps.Engine.Moving;
using MigrationOps.PowerShell.Hosting;

namespace MigrationOps.PowerShell.Commands;

/// <summary>A cmdlet for a migration that is under way: one that this session drives, or one that is reached by its monitors.</summary>
public abstract class MoveCmdlet : OperationCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Alias("Source", "VM")]
    [ValidateNotNull]
    public object Monitor { get; set; } = "";

    [Parameter(Position = 1)]
    [ValidateNotNull]
    public new object? Target { get; set; }

    private protected GivenMonitor GivenSource => GivenMonitor.Of(Monitor, ResolvePath);

    private protected GivenMonitor? GivenTarget => Target is null ? null : GivenMonitor.Of(Target, ResolvePath);

    private protected static RunningMove? FindRunning(GivenMonitor source) => RunningMove.Find(RunspaceSession.Current, source.Uri);

    /// <summary>The verdict over what the monitors say now.</summary>
    private protected static async Task<QemuMigrationVerdict> LookAsync(OpenMonitor source, OpenMonitor? target, TimeSpan timeout, CancellationToken cancellationToken)
    {
        await using var seen = await MoveInspection.LookAsync(new MoveInspectionOptions { ConnectedSource = source.Engine, ConnectedTarget = target?.Engine, Patience = timeout }, cancellationToken).ConfigureAwait(false);
        return seen.ToVerdict([]);
    }
}
