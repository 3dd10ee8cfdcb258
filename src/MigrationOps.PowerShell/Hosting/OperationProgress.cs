namespace MigrationOps.PowerShell.Hosting;

/// <summary>Work with a progress bar, which goes away with it.</summary>
internal static class OperationProgress
{
    /// <summary>Runs the work.</summary>
    /// <param name="host">Shows the bar.</param>
    /// <param name="activity">What is done, and to what: one bar for each.</param>
    /// <param name="work">What runs; it tells the meter how far it is.</param>
    internal static void WithProgress(this IOperationHost host, string activity, Action<ProgressMeter> work)
    {
        var meter = new ProgressMeter(host, activity);
        try
        {
            work(meter);
        }
        finally
        {
            meter.Complete();
        }
    }
}
