using System.Diagnostics;
using System.Globalization;
using System.Management.Automation;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>Progress of a transfer: bytes, rate, and what remains where the total is known; at most five times a second.</summary>
internal sealed class ProgressMeter(IOperationHost host, string activity)
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(200);

    private readonly int _id = activity.GetHashCode(StringComparison.Ordinal) & int.MaxValue;
    private readonly long _start = Stopwatch.GetTimestamp();
    private long _last;

    /// <summary>Reports how far it is, when the total is unknown.</summary>
    internal void Report(long bytes) => Report(bytes, null);

    /// <summary>Tells how far it is. Cheap when nothing is due.</summary>
    internal void Report(long bytes, long? total)
    {
        long last = Interlocked.Read(ref _last);
        if (last != 0 && Stopwatch.GetElapsedTime(last) < Interval)
        {
            return;
        }

        // Of several threads that come at once, one reports.
        if (Interlocked.CompareExchange(ref _last, Stopwatch.GetTimestamp(), last) != last)
        {
            return;
        }

        double seconds = Stopwatch.GetElapsedTime(_start).TotalSeconds;
        double rate = seconds > 0 ? bytes / seconds : 0;
        var record = new ProgressRecord(_id, activity, $"{Format(bytes)}{(total is { } t ? " of " + Format(t) : "")}, {Format((long)rate)}/s");
        if (total is > 0 and { } known)
        {
            record.PercentComplete = (int)Math.Min(100, bytes * 100 / known);
            record.SecondsRemaining = rate > 0 ? (int)Math.Min(int.MaxValue, (known - bytes) / rate) : -1;
        }

        host.WriteProgress(record);
    }

    /// <summary>Takes the progress bar away.</summary>
    internal void Complete()
    {
        if (Interlocked.Read(ref _last) != 0)
        {
            host.WriteProgress(new ProgressRecord(_id, activity, "done") { RecordType = ProgressRecordType.Completed });
        }
    }

    private static string Format(long bytes)
    {
        string[] units = ["B", "KiB", "MiB", "GiB", "TiB"];
        double value = bytes;
        int unit = 0;
        while (value >= 1024 && unit < units.Length - 1)
        {
            value /= 1024;
            unit++;
        }

        return value.ToString(unit == 0 ? "0" : "0.0", CultureInfo.InvariantCulture) + " " + units[unit];
    }
}
