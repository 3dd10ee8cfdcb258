using System.Diagnostics;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The rounds of a migration while the device runs. A turn lets every iterating device send until the turn's bandwidth or time is
/// used up; a round is a pass over what was pending when it began. The device may be stopped once what is pending fits into
/// the downtime: threshold = measured bandwidth x downtime limit. The estimates are asked after each turn, the exact
/// numbers only when the estimate is at or under the threshold.
/// </summary>
/// <param name="link">The connection.</param>
/// <param name="contexts">The devices.</param>
/// <param name="options">The limits.</param>
/// <param name="tally">Counts the rounds.</param>
/// <param name="postcopy">Postcopy's part; null in a migration that stays in pre-copy.</param>
internal sealed class Convergence(
    SourceLink link, IReadOnlyList<EntryContext> contexts, SaveVmSourceOptions options, SourceTally tally, PostcopySource? postcopy)
{
    // Bytes per second while none could be measured: QEMU's default of max-bandwidth.
    private const long AssumedBandwidth = 128 << 20;

    private readonly OutgoingStream _output = link.Output;
    private readonly HandlerCaller _caller = link.Run.Caller;
    private readonly TransferScope _scope = link.Run.Scope;
    private long _bandwidth;
    private int _rounds;
    private long _roundStart;
    private long _roundPending;
    private long _movedAt = Stopwatch.GetTimestamp();
    private long? _readyAt;
    private bool _late;
    private long _lowest = long.MaxValue;
    private TimeSpan _lowestAt;

    // Below the largest number: that stands for more than can be counted, and never fits.
    private long Threshold => Math.Min((long)Math.Min(_bandwidth * options.DowntimeLimit.TotalSeconds, long.MaxValue), long.MaxValue - 1);

    // While the target runs and waits for pages, bandwidth is limited only if a limit was given.
    private long? MaxBandwidth => _late ? options.MaxPostcopyBandwidth : options.MaxBandwidth;

    private bool PostcopyIsDue => postcopy is not null && _rounds >= options.PostcopyAfter;

    private bool AwaitsAck => _readyAt is not null && !link.ReturnPath.Acks.Complete;

    /// <summary>Iterates until the device may be stopped.</summary>
    /// <returns>True if it continues as postcopy, false if everything fits into the downtime.</returns>
    internal bool Run() => Iterate();

    /// <summary>Iterates after the switch, until what is left may be sent at once.</summary>
    internal void RunPostcopy()
    {
        _late = true;
        Iterate();
    }

    private bool Iterate()
    {
        var pending = Pending(exact: false);
        (_roundStart, _roundPending) = (_output.Position, pending.Total);
        bool roundEnded = false;
        while (true)
        {
            bool exact = pending.Total <= Threshold;
            if (exact)
            {
                pending = Pending(exact: true);
            }

            if (roundEnded)
            {
                Report(pending, exact);
            }

            link.ReturnPath.Check();
            bool fits = exact && pending.Total <= Threshold;
            if (_late)
            {
                if (fits)
                {
                    return true;
                }
            }
            else
            {
                if ((fits || (PostcopyIsDue && pending.MustPrecopy <= Threshold)) && MaySwitchOver())
                {
                    return !fits;
                }

                EndIfNotConverging(pending);
            }

            var turn = RunTurn();
            pending = Pending(exact: false);
            options.OnProgress?.Invoke(_output.Position, pending.Total);
            CheckProgress(turn, pending);
            roundEnded = turn.AllDone || _output.Position - _roundStart >= _roundPending || pending.Total <= Threshold;
        }
    }

    private (bool AllDone, long BodyBytes) RunTurn()
    {
        long begin = Stopwatch.GetTimestamp();
        long from = _output.Position;
        _output.BeginTurn(MaxBandwidth is { } limit ? Math.Max(1, (long)(limit * options.Turn.TotalSeconds)) : null, options.Turn);
        long body = 0;
        bool allDone;
        long pass;
        do
        {
            (allDone, pass) = IterateDevices();
            body += pass;
        }
        while (!allDone && pass > 0 && !_output.BudgetExceeded);
        _output.Flush();
        long sent = _output.Position - from;
        bool idle = pass == 0;
        if (MaxBandwidth is { } rate)
        {
            WaitUntilDue(TimeSpan.FromSeconds((double)sent / rate) - Stopwatch.GetElapsedTime(begin));
        }

        // Framing without a body says nothing about how fast the connection is.
        double seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
        // Nor does a turn that was over early: what it sent may lie in the kernel's buffers.
        if (body > 0 && seconds > 0 && (_bandwidth == 0 || seconds >= options.Turn.TotalSeconds / 2))
        {
            _bandwidth = Math.Min((long)Math.Min(sent / seconds, 1e15), MaxBandwidth ?? long.MaxValue);
        }

        if (_bandwidth == 0)
        {
            // No device has anything to send before the stop, so nothing can be measured.
            _bandwidth = MaxBandwidth ?? AssumedBandwidth;
        }

        if (idle || AwaitsAck)
        {
            WaitUntilDue(options.Turn - Stopwatch.GetElapsedTime(begin));
        }

        return (allDone, body);
    }

    private (bool AllDone, long BodyBytes) IterateDevices()
    {
        bool allDone = true;
        long body = 0;
        foreach (var context in contexts)
        {
            var entry = context.Entry;
            if (!entry.Has(SaveVmHandler.SaveLiveIterate) || !TakesPart(context)
                || (entry.Has(SaveVmHandler.IsActiveIterate)
                    && !_caller.Call(entry, SaveVmHandler.IsActiveIterate, () => entry.Handlers.IsActiveIterate(context))))
            {
                continue;
            }

            if (_output.BudgetExceeded)
            {
                return (false, body);
            }

            var (done, length) = link.Sections.Iterate(context);
            allDone &= done;
            body += length;
        }

        return (allDone, body);
    }

    private PendingBytes Pending(bool exact)
    {
        var (wanted, other) = exact
            ? (SaveVmHandler.StatePendingExact, SaveVmHandler.StatePendingEstimate)
            : (SaveVmHandler.StatePendingEstimate, SaveVmHandler.StatePendingExact);
        var sum = default(PendingBytes);
        foreach (var context in contexts)
        {
            var entry = context.Entry;
            var handler = entry.Has(wanted) ? wanted : other;
            if (!entry.Has(handler) || !TakesPart(context))
            {
                continue;
            }

            var pending = _caller.Call(entry, handler, () => handler == SaveVmHandler.StatePendingExact
                ? entry.Handlers.StatePendingExact(context)
                : entry.Handlers.StatePendingEstimate(context));
            if (pending.MustPrecopy < 0 || pending.CanPostcopy < 0 || pending.SwitchoverAcks < 0)
            {
                throw new SaveVmException(SaveVmError.HandlerFailed,
                    $"{handler} of {HandlerCaller.Name(entry)} says that {pending.MustPrecopy:N0} and {pending.CanPostcopy:N0} bytes and {pending.SwitchoverAcks:N0} acknowledgements are pending.")
                { Section = HandlerCaller.Name(entry), ByteOffset = _output.Position, Target = entry.ToString() };
            }

            sum = sum.Add(pending);
        }

        link.ReturnPath.Acks.Request(sum.SwitchoverAcks);
        return sum;
    }

    // After the switch the others are complete.
    private bool TakesPart(EntryContext context) => _caller.IsActive(context) && (!_late || postcopy!.FinishesInPostcopy(context));

    private bool MaySwitchOver()
    {
        if (!options.SwitchoverAck || link.ReturnPath.Acks.Complete)
        {
            return true;
        }

        _readyAt ??= Stopwatch.GetTimestamp();
        if (_scope.Timeout != Timeout.InfiniteTimeSpan && Stopwatch.GetElapsedTime(_readyAt.Value) > _scope.Timeout)
        {
            throw new SaveVmException(SaveVmError.SwitchoverAckTimeout,
                $"The target did not allow the switchover within {_scope.Timeout.TotalSeconds:0.###} s after the source was ready for it, at byte {_output.Position:N0} of the stream.")
            { ByteOffset = _output.Position, Section = "return path" };
        }

        return false;
    }

    private void Report(PendingBytes pending, bool exact)
    {
        _rounds = ++tally.Rounds;
        long sent = _output.Position - _roundStart;
        SaveVmLog.Round(link.Run.Log, _rounds, sent, pending.Total, Threshold);
        options.OnRound?.Invoke(new MigrationRound
        {
            Round = _rounds,
            Bytes = sent,
            TotalBytes = _output.Position,
            MustPrecopy = pending.MustPrecopy,
            CanPostcopy = pending.CanPostcopy,
            Exact = exact,
            Bandwidth = _bandwidth,
            Threshold = Threshold,
            Elapsed = tally.Elapsed,
        });
        (_roundStart, _roundPending) = (_output.Position, pending.Total);
    }

    private void EndIfNotConverging(PendingBytes pending)
    {
        if (pending.Total < _lowest)
        {
            (_lowest, _lowestAt) = (pending.Total, tally.Elapsed);
        }

        string? reason = options.MaxRounds is { } rounds && _rounds >= rounds ? $"after {_rounds:N0} rounds"
            : options.MaxDuration is { } duration && tally.Elapsed >= duration ? $"within {duration.TotalSeconds:0.###} s"
            : options.MaxStall is { } stall && tally.Elapsed - _lowestAt >= stall
                ? $"and is not nearer to its end than {stall.TotalSeconds:0.###} s ago, when {_lowest:N0} bytes were pending"
            : null;
        if (reason is null)
        {
            return;
        }

        string why = pending.Total > Threshold
            ? $"{pending.Total:N0} bytes are pending, and {Threshold:N0} fit into a downtime of {options.DowntimeLimit.TotalMilliseconds:N0} ms at the measured {_bandwidth:N0} bytes/s"
            : "everything fits into the downtime, but the target has not allowed the switchover";
        throw new SaveVmException(SaveVmError.DidNotConverge, $"The migration did not converge {reason}: {why}.")
        { ByteOffset = _output.Position };
    }

    private void CheckProgress((bool AllDone, long BodyBytes) turn, PendingBytes pending)
    {
        if (turn.BodyBytes > 0 || pending.Total == 0 || _readyAt is not null)
        {
            _movedAt = Stopwatch.GetTimestamp();
        }
        else if (_scope.Timeout != Timeout.InfiniteTimeSpan && Stopwatch.GetElapsedTime(_movedAt) > _scope.Timeout)
        {
            throw new SaveVmException(SaveVmError.NoProgress,
                $"The devices report {pending.Total:N0} pending bytes and have sent none for {_scope.Timeout.TotalSeconds:0.###} s, at byte {_output.Position:N0} of the stream.")
            { ByteOffset = _output.Position };
        }
    }

    // The bandwidth's rest, which a cancellation or an answer of the target ends.
    private void WaitUntilDue(TimeSpan time)
    {
        if (time <= TimeSpan.Zero)
        {
            return;
        }

        link.ReturnPath.WaitFor(time, untilAcknowledged: AwaitsAck);
    }
}
