using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// Follows a migration by samples: one whenever a pass over memory begins or the status changes, otherwise at the interval; never more
/// than five a second, because query-migrate takes QEMU's big lock. It ends with the migration.
/// </summary>
internal sealed class MigrationWatch(QmpMonitor monitor, string? vm)
{
    /// <summary>The shortest time from one sample to the next.</summary>
    internal static readonly TimeSpan ShortestInterval = TimeSpan.FromMilliseconds(200);

    /// <summary>The time between samples of a QEMU that announces its passes.</summary>
    internal static readonly TimeSpan AnnouncedInterval = TimeSpan.FromSeconds(1);

    // QEMU announces that a migration is complete before it counts its times (seen with 7.2 on a busy host). That takes it moments.
    private const int MostUncounted = 25;

    private string? _lastStatus;
    private string? _runState;

    /// <summary>
    /// The time from one sample to the next while nothing is announced; null for a second if QEMU announces passes and changes (its capability
    /// 'events' is on), and the shortest otherwise.
    /// </summary>
    internal TimeSpan? Interval { get; init; }

    /// <summary>How long to wait for a migration to start, if none has.</summary>
    internal TimeSpan StartTimeout { get; init; } = TimeSpan.Zero;

    /// <summary>One sample now.</summary>
    internal async Task<QemuMigrationStatus> SampleAsync(CancellationToken cancellationToken)
    {
        var answers = await monitor.ExecuteAllAsync([new QmpCommand("query-status"), new QmpCommand("query-migrate")], null, cancellationToken).ConfigureAwait(false);
        return MigrationStatusReader.Read(answers[1], monitor.Name, vm, answers[0].Text("status"));
    }

    // Between changes of the status the VM's state is known by its events: one question a sample is enough.
    private async Task<QemuMigrationStatus> SampleAgainAsync(CancellationToken cancellationToken)
    {
        if (monitor.Options.Lease)
        {
            return await SampleAsync(cancellationToken).ConfigureAwait(false);
        }

        var answer = await monitor.ExecuteAsync("query-migrate", cancellationToken: cancellationToken).ConfigureAwait(false);
        string? status = answer.Text("status");
        if (_runState is null || status != _lastStatus)
        {
            _runState = (await monitor.ExecuteAsync("query-status", cancellationToken: cancellationToken).ConfigureAwait(false)).Text("status");
        }

        _lastStatus = status;
        return MigrationStatusReader.Read(answer, monitor.Name, vm, monitor.State.RunState ?? _runState);
    }

    private async Task<TimeSpan> UsualIntervalAsync(CancellationToken cancellationToken)
    {
        if (monitor.Options.Lease)
        {
            return ShortestInterval;
        }

        try
        {
            var capabilities = await monitor.ExecuteAsync("query-migrate-capabilities", cancellationToken: cancellationToken).ConfigureAwait(false);
            return capabilities.Items().Any(capability => capability.Text("capability") == "events" && capability.Flag("state") == true) ? AnnouncedInterval : ShortestInterval;
        }
        catch (QmpException e) when (e.Reason is QmpError.CommandFailed or QmpError.CommandNotFound)
        {
            return ShortestInterval;
        }
    }

    /// <summary>Samples up to the end. The last one has the end's status, or none if no migration started in time.</summary>
    internal async IAsyncEnumerable<QemuMigrationStatus> WatchAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var interval = Interval ?? await UsualIntervalAsync(cancellationToken).ConfigureAwait(false);
        long start = Stopwatch.GetTimestamp();
        bool hasStarted = false;
        int uncounted = 0;
        while (true)
        {
            long seen = monitor.Events.Last;
            long taken = Stopwatch.GetTimestamp();
            var sample = await SampleAgainAsync(cancellationToken).ConfigureAwait(false);
            if (sample is { Phase: QemuMigrationPhase.Completed, TotalTime.Ticks: 0 } && uncounted++ < MostUncounted)
            {
                await Task.Delay(ShortestInterval, cancellationToken).ConfigureAwait(false);
                continue;
            }

            bool isNone = sample.Phase == QemuMigrationPhase.None;
            hasStarted |= !isNone;
            if (!isNone || hasStarted || Stopwatch.GetElapsedTime(start) >= StartTimeout)
            {
                yield return sample;
            }

            // A QEMU that reports none after a migration has another one behind it, or a target that hides a state.
            if (sample.HasEnded || (isNone && (hasStarted ? !monitor.IsConnected : Stopwatch.GetElapsedTime(start) >= StartTimeout)))
            {
                yield break;
            }

            await PauseAsync(seen, taken, interval, cancellationToken).ConfigureAwait(false);
        }
    }

    // At least the shortest interval, at most the usual one: an event in between ends the pause.
    private async Task PauseAsync(long seen, long taken, TimeSpan interval, CancellationToken cancellationToken)
    {
        var shortest = (monitor.Options.Lease ? monitor.Options.LeaseInterval : ShortestInterval) - Stopwatch.GetElapsedTime(taken);
        if (shortest > TimeSpan.Zero)
        {
            await Task.Delay(shortest, cancellationToken).ConfigureAwait(false);
        }

        var rest = interval - Stopwatch.GetElapsedTime(taken);
        if (rest <= TimeSpan.Zero || monitor.Options.Lease)
        {
            return;
        }

        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(rest);
        try
        {
            await monitor.WaitForEventAsync(static received => received.Event.Name is "MIGRATION" or "MIGRATION_PASS" or "STOP" or "RESUME",
                seen, Timeout.InfiniteTimeSpan, limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // Nothing was announced within the interval.
        }
        catch (QmpException e) when (e.Reason == QmpError.ConnectionLost)
        {
            // The next sample connects again.
        }
    }
}
