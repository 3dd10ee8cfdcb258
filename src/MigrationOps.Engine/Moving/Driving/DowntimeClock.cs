using System.Diagnostics;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Moving;

/// <summary>
/// The downtime of a move by the clock of the process that drives it: from the STOP of the source to the RESUME of the target, in
/// parts. Both are seen when their events arrive.
/// </summary>
internal sealed class DowntimeClock(QmpMonitor source, QmpMonitor? target)
{
    private readonly long _sourceSeen = source.Events.Last;
    private readonly long _targetSeen = target?.Events.Last ?? 0;

    /// <summary>When the commit was begun and when it was durable; 0 before.</summary>
    internal long CommitBegun { get; set; }

    internal long CommitDone { get; set; }

    /// <summary>The whole and its parts; null if the guest did not run before or after, or an event was lost.</summary>
    internal (TimeSpan Whole, MigrationDowntimePart[] Parts)? Read()
    {
        if (target is null || LastOf(source, _sourceSeen, "STOP") is not { } stop || FirstOf(target, _targetSeen, received => received.Event.Name == "RESUME") is not { } resume
            || FirstOf(target, _targetSeen, IsLoaded) is not { } loaded || CommitDone == 0)
        {
            return null;
        }

        return (Stopwatch.GetElapsedTime(stop, resume),
        [
            Part("Transfer", stop, loaded),
            Part("Confirm", loaded, CommitBegun),
            Part("Journal", CommitBegun, CommitDone),
            Part("Start", CommitDone, resume),
        ]);
    }

    private static bool IsLoaded(ReceivedEvent received)
        => received.Event.Name == "MIGRATION" && received.Event.Data.Text("status") is "completed" or "postcopy-active";

    private static MigrationDowntimePart Part(string name, long from, long to) => new() { Name = name, Duration = to > from ? Stopwatch.GetElapsedTime(from, to) : TimeSpan.Zero };

    private static long? LastOf(QmpMonitor monitor, long after, string name)
        => monitor.Events.Since(after, out _).LastOrDefault(received => received.Event.Name == name)?.Ticks;

    private static long? FirstOf(QmpMonitor monitor, long after, Func<ReceivedEvent, bool> isWanted)
        => monitor.Events.Since(after, out _).FirstOrDefault(isWanted)?.Ticks;
}
