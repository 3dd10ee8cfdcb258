using System.Diagnostics.Metrics;

namespace MigrationOps.Engine.Wire;

/// <summary>What finished transfers amounted to, for whoever listens to the meter <c>MigrationOps</c>.</summary>
internal static class TransferMetrics
{
    /// <summary>The name of the meter.</summary>
    public const string MeterName = "MigrationOps";

    private static readonly Meter Meter = new(MeterName);
    private static readonly Counter<long> Bytes = Meter.CreateCounter<long>("migrationops.transfer.bytes", "By", "Bytes of state moved");
    private static readonly Histogram<double> Seconds = Meter.CreateHistogram<double>("migrationops.transfer.duration", "s", "Duration of finished transfers");

    /// <summary>Counts a finished transfer.</summary>
    /// <param name="kind">What sort of state moved, such as "vhost-user".</param>
    /// <param name="direction">"save" or "load", "send" or "receive".</param>
    /// <param name="bytes">Bytes of raw state.</param>
    /// <param name="duration">How long it took.</param>
    public static void Record(string kind, string direction, long bytes, TimeSpan duration)
    {
        KeyValuePair<string, object?> kindTag = new("kind", kind);
        KeyValuePair<string, object?> directionTag = new("direction", direction);
        Bytes.Add(bytes, kindTag, directionTag);
        Seconds.Record(duration.TotalSeconds, kindTag, directionTag);
    }
}
