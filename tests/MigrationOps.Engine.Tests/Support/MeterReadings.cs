using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>What the meter of the engine counts while it is open. Other tests run beside this one, so look for sizes that only one has.</summary>
internal sealed class MeterReadings : IDisposable
{
    private readonly MeterListener _listener = new();
    private readonly ConcurrentQueue<(string Instrument, string Kind, string Direction, double Value)> _readings = [];

    internal MeterReadings()
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == TransferMetrics.MeterName)
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Add(instrument, value, tags));
        _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Add(instrument, value, tags));
        _listener.Start();
    }

    /// <summary>Fails unless a transfer of so many bytes was counted once, and its duration with it.</summary>
    internal void Saw(string kind, string direction, long bytes)
    {
        var counted = _readings.Where(r => r.Kind == kind && r.Direction == direction).ToArray();
        Assert.Single(counted, r => r.Instrument == "migrationops.transfer.bytes" && r.Value == bytes);
        Assert.Contains(counted, r => r.Instrument == "migrationops.transfer.duration" && r.Value > 0);
    }

    public void Dispose() => _listener.Dispose();

    private void Add(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        var named = tags.ToArray().ToDictionary(tag => tag.Key, tag => (string)tag.Value!);
        _readings.Enqueue((instrument.Name, named["kind"], named["direction"], value));
    }
}
