using MigrationOps.Engine.SaveVm;
using MigrationOps.Engine.Wire;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// A migration of this session that broke after its switch to postcopy. It keeps the devices' state until it is resumed or given up;
/// the end of the session gives it up.
/// </summary>
/// <typeparam name="TDriver"><see cref="SaveVmSource"/> or <see cref="SaveVmTarget"/>: a session may have one of each.</typeparam>
internal sealed class PausedMigration<TDriver>(TDriver driver, RelayLogger log) : IDisposable
    where TDriver : class, IMigrationDriver
{
    // The runspace is closing; the wait for a cleanup that hangs is short.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    internal TDriver Driver => driver;

    internal RelayLogger Log => log;

    /// <summary>The one of a session, or null.</summary>
    internal static PausedMigration<TDriver>? Of(RunspaceSession session) => session.All<PausedMigration<TDriver>>() is [var paused, ..] ? paused : null;

    /// <summary>Runs a driver, and keeps it in the session if it ends paused.</summary>
    internal static MigrationStreamTransfer Run(RunspaceSession session, TDriver driver, RelayLogger log, Func<MigrationStreamTransfer> run)
    {
        try
        {
            return run();
        }
        finally
        {
            if (driver.IsPaused)
            {
                session.AddOwned(new PausedMigration<TDriver>(driver, log));
            }
        }
    }

    public void Dispose()
    {
        using var scope = new TransferScope(Patience);
        driver.Abandon(scope);
    }
}
