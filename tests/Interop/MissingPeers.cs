[assembly: AssemblyFixture(typeof(MigrationOps.Interop.Tests.MissingPeers))]

namespace MigrationOps.Interop.Tests;

/// <summary>
/// At the end of a run, leaves beside the tests what was missing. What a test host prints is not shown: the target
/// TellMissingPeers of the project (or of the solution) prints it after the last result.
/// </summary>
public sealed class MissingPeers : IDisposable
{
    private static readonly string Report = Path.Combine(AppContext.BaseDirectory, "missing-peers.txt");

    public MissingPeers() => File.Delete(Report);

    public void Dispose()
    {
        if (Peers.Summary is { Length: > 0 } summary)
        {
            File.WriteAllText(Report, summary);
        }
    }
}
