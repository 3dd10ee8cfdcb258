using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Moving;

/// <content>From the first byte to the source's last word.</content>
internal sealed partial class MigrationMove
{
    private static readonly TimeSpan ShortestPause = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan LongestPause = TimeSpan.FromMilliseconds(500);

    private readonly StallRule _stall = new();
    private readonly Queue<MigrationStallAction> _stallActions = new(options.OnStall);
    private TimeSpan _downtimeLimit = options.DowntimeLimit;
    private bool _saidUnknown;

    // Returns when the source says that everything is done, or that the guest is at the target (postcopy).
    private async Task WatchAsync(CancellationToken cancellationToken)
    {
        long copying = Stopwatch.GetTimestamp();
        long moved = copying;
        (string? Status, long Bytes, long Pass) before = default;
        while (true)
        {
            long seen = _source.Events.Last;
            long taken = Stopwatch.GetTimestamp();
            var sample = await SampleAsync().ConfigureAwait(false);
            var now = (sample.Status, sample.TransferredBytes ?? 0, sample.Pass ?? 0);
            if (now != before)
            {
                (before, moved) = (now, Stopwatch.GetTimestamp());
            }

            bool isEnd = await TakeSampleAsync(sample, cancellationToken).ConfigureAwait(false);
            if (isEnd)
            {
                return;
            }

            cancellationToken.ThrowIfCancellationRequested();
            if (sample.Phase != QemuMigrationPhase.Held && Stopwatch.GetElapsedTime(moved) > options.NoProgress)
            {
                throw new MoveException(MoveError.NoProgress, string.Create(CultureInfo.InvariantCulture,
                    $"{_source.Name}: nothing was sent for {options.NoProgress.TotalSeconds:0.#} s (status '{sample.Status}', pass {sample.Pass}, {sample.RemainingBytes ?? 0:N0} bytes left)."));
            }

            if (options.MaxDuration is { } longest && Stopwatch.GetElapsedTime(copying) > longest)
            {
                throw new MoveException(MoveError.TooLong, string.Create(CultureInfo.InvariantCulture,
                    $"{_source.Name}: not at its switch within {longest.TotalSeconds:0.#} s (pass {sample.Pass}, {sample.RemainingBytes ?? 0:N0} bytes left)."));
            }

            await PauseAsync(seen, taken, cancellationToken).ConfigureAwait(false);
            if (_source.State.Migration == "completed")
            {
                // The guest stands still: the source's own event is enough, and the numbers can wait.
                await EnterSwitchingAsync().ConfigureAwait(false);
                return;
            }
        }
    }

    private async Task<QemuMigrationStatus> SampleAsync()
    {
        var answer = await _source.ExecuteAsync("query-migrate", cancellationToken: CancellationToken.None).ConfigureAwait(false);
        var sample = _lastSample = MigrationStatusReader.Read(answer, _source.Name, _intent!.VM, _source.State.RunState);
        options.OnSample?.Invoke(sample);
        return sample;
    }

    private Task EnterSwitchingAsync()
        => _phase.Current is MovePhase.Copying or MovePhase.Stalled or MovePhase.Held ? EnterAsync(MovePhase.Switching) : Task.CompletedTask;

    // True at the end.
    private async Task<bool> TakeSampleAsync(QemuMigrationStatus sample, CancellationToken cancellationToken)
    {
        switch (sample.Phase)
        {
            case QemuMigrationPhase.Completed:
                await EnterSwitchingAsync().ConfigureAwait(false);
                return true;
            case QemuMigrationPhase.Postcopy:
                await EnterAsync(MovePhase.Postcopy).ConfigureAwait(false);
                return true;
            case QemuMigrationPhase.Failed or QemuMigrationPhase.Failing:
                throw new MoveException(MoveError.MigrationFailed, $"{_source.Name}: the migration has failed: {sample.Error ?? "QEMU gives no reason"}.");
            case QemuMigrationPhase.Cancelled or QemuMigrationPhase.Cancelling:
                throw new MoveException(MoveError.Cancelled, $"{_source.Name}: the migration was cancelled, not by this move.");
            case QemuMigrationPhase.Held:
                await HoldAsync(cancellationToken).ConfigureAwait(false);
                return false;
            case QemuMigrationPhase.Switching:
                await EnterSwitchingAsync().ConfigureAwait(false);
                return false;
            case QemuMigrationPhase.Copying:
                await SteerAsync(sample).ConfigureAwait(false);
                return false;
            case QemuMigrationPhase.Unknown when !_saidUnknown:
                _saidUnknown = true;
                _notes.Add($"QEMU's status '{sample.Status}' is not known here: no action was taken in it");
                return false;
            default:
                return false;
        }
    }

    private async Task HoldAsync(CancellationToken cancellationToken)
    {
        if (_phase.Current == MovePhase.Switching)
        {
            return;
        }

        await EnterAsync(MovePhase.Held).ConfigureAwait(false);
        await _continue.Task.WaitAsync(options.MaxDuration ?? Timeout.InfiniteTimeSpan, cancellationToken).ConfigureAwait(false);
        await _source.ExecuteAsync("migrate-continue", new JsonObject { ["state"] = "pre-switchover" }, CancellationToken.None).ConfigureAwait(false);
        await EnterAsync(MovePhase.Switching).ConfigureAwait(false);
    }

    private async Task SteerAsync(QemuMigrationStatus sample)
    {
        if (Volatile.Read(ref _postcopyWanted))
        {
            Volatile.Write(ref _postcopyWanted, false);
            await ActAsync(MigrationStallAction.Postcopy, "asked for").ConfigureAwait(false);
            return;
        }

        if (!_stall.Take(sample.Pass ?? 0, sample.RemainingBytes ?? 0, sample.BytesPerSecond ?? 0))
        {
            return;
        }

        await EnterAsync(MovePhase.Stalled).ConfigureAwait(false);
        string why = string.Create(CultureInfo.InvariantCulture,
            $"pass {sample.Pass}, {_stall.BestRemaining:N0} bytes left at best, {_stall.BytesPerSecond:N0} bytes/s");
        if (!_stallActions.TryDequeue(out var action))
        {
            // Nothing more may be done; it may still converge by itself.
            _stall.Restart();
            return;
        }

        await ActAsync(action, why).ConfigureAwait(false);
        _stall.Restart();
        await EnterAsync(MovePhase.Copying).ConfigureAwait(false);
    }

    private async Task ActAsync(MigrationStallAction action, string why)
    {
        string done;
        switch (action)
        {
            case MigrationStallAction.RaiseDowntime:
                // A quarter above what it takes: the guest does not stand still at the best moment only.
                var needed = (_stall.ImpliedDowntime ?? options.MaxDowntime) * 1.25;
                _downtimeLimit = needed > options.MaxDowntime ? options.MaxDowntime : needed > _downtimeLimit ? needed : _downtimeLimit;
                await SetAsync(new JsonObject { ["downtime-limit"] = (long)Math.Ceiling(_downtimeLimit.TotalMilliseconds) }).ConfigureAwait(false);
                done = string.Create(CultureInfo.InvariantCulture, $"raised the downtime limit to {_downtimeLimit.TotalMilliseconds:0} ms");
                break;
            case MigrationStallAction.Throttle:
                await SetAsync(new JsonObject { ["max-cpu-throttle"] = 99, ["cpu-throttle-initial"] = 20, ["cpu-throttle-increment"] = 10 }).ConfigureAwait(false);
                done = "lets QEMU slow the CPUs down";
                break;
            case MigrationStallAction.Postcopy:
                await _source.ExecuteAsync("migrate-start-postcopy").ConfigureAwait(false);
                done = "switched to postcopy";
                break;
            case MigrationStallAction.Pause:
                await _source.ExecuteAsync("stop").ConfigureAwait(false);
                done = "paused the guest";
                break;
            default:
                throw new MoveException(MoveError.NotConverging, $"{_source.Name}: the memory changes faster than it can be sent ({why}).");
        }

        _actions.Add($"{done} ({why})");
        await AppendAsync(new MoveRecord { Record = MoveRecordKind.Action, Note = _actions[^1] }).ConfigureAwait(false);
    }

    private Task SetAsync(JsonObject parameters) => _sourceSettings.SetParametersAsync(parameters, CancellationToken.None);

    // A change of the status ends the pause at once, a new pass when the shortest pause is over.
    private async Task PauseAsync(long seen, long taken, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(LongestPause);
        try
        {
            while (true)
            {
                var happened = await _source.WaitForEventAsync(received => received.Event.Name is "MIGRATION" or "MIGRATION_PASS", seen, Timeout.InfiniteTimeSpan, limit.Token).ConfigureAwait(false);
                var rest = ShortestPause - Stopwatch.GetElapsedTime(taken);
                if (happened.Event.Name == "MIGRATION" || rest <= TimeSpan.Zero)
                {
                    return;
                }

                seen = happened.Sequence;
                using var shortest = CancellationTokenSource.CreateLinkedTokenSource(limit.Token);
                shortest.CancelAfter(rest);
                try
                {
                    await _source.WaitForEventAsync(received => received.Event.Name == "MIGRATION", seen, Timeout.InfiniteTimeSpan, shortest.Token).ConfigureAwait(false);
                }
                catch (OperationCanceledException) when (!limit.IsCancellationRequested)
                {
                    // The shortest pause is over, and the pass has begun.
                }

                return;
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // Nothing was announced.
        }
        catch (QmpException e) when (e.Reason == QmpError.ConnectionLost)
        {
            // The next sample connects again.
        }
    }
}
