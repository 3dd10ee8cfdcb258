using System.Diagnostics;

namespace MigrationOps.Engine.SaveVm;

/// <summary>Cuts a stretch of time into its parts.</summary>
internal sealed class PartClock
{
    private long _mark = Stopwatch.GetTimestamp();

    internal TimeSpan Next()
    {
        long now = Stopwatch.GetTimestamp();
        var part = Stopwatch.GetElapsedTime(_mark, now);
        _mark = now;
        return part;
    }
}
