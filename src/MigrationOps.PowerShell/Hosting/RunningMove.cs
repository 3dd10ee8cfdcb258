using MigrationOps.Engine.Moving;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// A move that this session drives, in the pipeline or as a job. It holds both monitors, so that other cmdlets of the session reach the VM
/// through it. When the session ends, the migration is given up.
/// </summary>
internal sealed class RunningMove(MigrationMove move, string source, string target) : IDisposable
{
    internal MigrationMove Move => move;

    /// <summary>The move of a monitor; null if this session drives none.</summary>
    internal static RunningMove? Find(RunspaceSession session, string uri)
        => session.All<RunningMove>().FirstOrDefault(running => running.HasSide(uri));

    private bool HasSide(string uri) => uri == source || uri == target;

    public void Dispose() => move.Cancel();
}
