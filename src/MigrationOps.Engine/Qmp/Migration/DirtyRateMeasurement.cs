using System.Diagnostics;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace MigrationOps.Engine.Qmp;

/// <summary>Measures how fast a VM writes its memory, over windows of several lengths, by QEMU's calc-dirty-rate.</summary>
internal static class DirtyRateMeasurement
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(50);

    /// <summary>The least and the most pages per GiB that QEMU samples.</summary>
    internal const int FewestSamples = 128, MostSamples = 16384;

    /// <exception cref="QmpException"><see cref="QmpError.MigrationRunning"/>: it would disturb the migration and be wrong.</exception>
    internal static async Task<DirtyRateProfile> MeasureAsync(QmpMonitor monitor, string? vm, IReadOnlyList<TimeSpan> windows, DirtyRateMode mode, int samplePages,
        Action<int, TimeSpan>? progress = null, CancellationToken cancellationToken = default)
    {
        var schema = await monitor.GetSchemaAsync(cancellationToken).ConfigureAwait(false);
        bool knowsMilliseconds = schema.HasArgument("calc-dirty-rate", "calc-time-unit");
        var started = DateTimeOffset.UtcNow;
        await ThrowIfMigratingAsync(monitor, cancellationToken).ConfigureAwait(false);
        long? memory = await MemoryAsync(monitor, cancellationToken).ConfigureAwait(false);
        var measured = new List<DirtyRateWindow>();
        foreach (var window in windows.Order())
        {
            if (!knowsMilliseconds && window.Ticks % TimeSpan.TicksPerSecond != 0)
            {
                throw new QmpException(QmpError.NotSupported, $"{monitor.Name}: QEMU {monitor.Version.Number} measures whole seconds only, and a window of {window.TotalSeconds:0.###} s was asked for.",
                    action: "Give windows of whole seconds, such as 1, 2 and 5.");
            }

            progress?.Invoke(measured.Count, window);
            long rate = await MeasureOnceAsync(monitor, window, mode, samplePages, knowsMilliseconds, cancellationToken).ConfigureAwait(false);
            measured.Add(new DirtyRateWindow { Window = window, BytesPerSecond = rate, Bytes = (long)(rate * window.TotalSeconds) });
        }

        var curve = DirtyRateCurve.Fit([.. measured.Select(one => (one.Window.TotalSeconds, (double)one.Bytes))]);
        return new DirtyRateProfile
        {
            VM = vm,
            Monitor = monitor.Name,
            Mode = mode,
            SamplePages = mode == DirtyRateMode.PageSampling ? samplePages : 0,
            MemoryBytes = memory,
            Windows = [.. measured],
            WorkingSetBytes = curve.WorkingSet,
            TimeConstant = TimeSpan.FromSeconds(curve.TimeConstant),
            SteadyBytesPerSecond = curve.Steady,
            FitError = curve.Error,
            TakenAt = started.LocalDateTime,
        };
    }

    private static async Task<long> MeasureOnceAsync(QmpMonitor monitor, TimeSpan window, DirtyRateMode mode, int samplePages, bool milliseconds, CancellationToken cancellationToken)
    {
        var arguments = new JsonObject
        {
            ["calc-time"] = milliseconds ? (long)window.TotalMilliseconds : (long)window.TotalSeconds,
            ["mode"] = mode switch
            {
                DirtyRateMode.DirtyBitmap => "dirty-bitmap",
                DirtyRateMode.DirtyRing => "dirty-ring",
                _ => "page-sampling",
            },
        };
        if (milliseconds)
        {
            arguments["calc-time-unit"] = "millisecond";
        }

        if (mode == DirtyRateMode.PageSampling)
        {
            arguments["sample-pages"] = samplePages;
        }

        await monitor.MeasureAsync(new QmpCommand("calc-dirty-rate", arguments), cancellationToken).ConfigureAwait(false);
        await Task.Delay(window, cancellationToken).ConfigureAwait(false);
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            var question = new QmpCommand("query-dirty-rate", milliseconds ? new JsonObject { ["calc-time-unit"] = "millisecond" } : null);
            var answers = await monitor.ExecuteAllAsync([question, new QmpCommand("query-migrate")], null, cancellationToken).ConfigureAwait(false);
            ThrowIfMigrating(monitor, answers[1]);
            if (answers[0].Text("status") == "measured")
            {
                // Mebibytes a second, rounded down by QEMU: a window in which less was written reads as none.
                return (answers[0].Number("dirty-rate") ?? 0) << 20;
            }

            if (Stopwatch.GetElapsedTime(start) > window + monitor.Options.Timeouts.Busy)
            {
                throw new QmpException(QmpError.NoReply, $"{monitor.Name}: QEMU has not ended its measurement of {window.TotalSeconds:0.###} s ('{answers[0].Text("status")}').") { Target = monitor.Name };
            }

            await Task.Delay(Look, cancellationToken).ConfigureAwait(false);
        }
    }

    private static async Task ThrowIfMigratingAsync(QmpMonitor monitor, CancellationToken cancellationToken)
        => ThrowIfMigrating(monitor, await monitor.ExecuteAsync("query-migrate", cancellationToken: cancellationToken).ConfigureAwait(false));

    private static void ThrowIfMigrating(QmpMonitor monitor, JsonElement answer)
    {
        string? status = answer.Text("status");
        if (MigrationStatusReader.PhaseOf(status) is not (QemuMigrationPhase.None or QemuMigrationPhase.Completed or QemuMigrationPhase.Failed or QemuMigrationPhase.Cancelled))
        {
            throw new QmpException(QmpError.MigrationRunning, $"{monitor.Name}: a migration is running ('{status}'); its own numbers say how fast the guest writes.",
                action: "Watch the migration: DirtyBytesPerSecond.")
            { Target = monitor.Name };
        }
    }

    private static async Task<long?> MemoryAsync(QmpMonitor monitor, CancellationToken cancellationToken)
    {
        var answer = await monitor.ExecuteAsync("query-memory-size-summary", cancellationToken: cancellationToken).ConfigureAwait(false);
        return answer.Number("base-memory") + (answer.Number("plugged-memory") ?? 0);
    }
}
