using System.Diagnostics.Metrics;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Wire;

public class TransferMetricsTests
{
    [Fact]
    public void A_finished_transfer_is_counted_with_its_kind_and_direction()
    {
        var seen = new List<string>();
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, l) =>
        {
            if (instrument.Meter.Name == TransferMetrics.MeterName)
            {
                l.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) =>
        {
            if (tags.ToArray().Any(tag => (string?)tag.Value == "test-only"))
            {
                seen.Add($"{instrument.Name} {value}");
            }
        });
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) =>
        {
            if (tags.ToArray().Any(tag => (string?)tag.Value == "test-only"))
            {
                seen.Add($"{instrument.Name} {value}");
            }
        });
        listener.Start();

        TransferMetrics.Record("test-only", "save", 42, TimeSpan.FromSeconds(2));

        Assert.Equal(["migrationops.transfer.bytes 42", "migrationops.transfer.duration 2"], seen);
    }
}
