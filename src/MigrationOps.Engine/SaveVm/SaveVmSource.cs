using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The source driver: brings the registered devices over in pre-copy, on one connection, or with multifd channels beside it.
/// <code>
/// prepare → [channels] → header, configuration → [return path] → setup → ( iterate → pending? )* → stop the device
///         → [SWITCHOVER_START] → END sections, and beside them a worker per device that sends packets → FULL sections
///         → EOF → [description] → [target confirms] → cleanup
/// </code>
/// From every state a failure or a cancellation leads to cleanup, and to resuming the device if it had been stopped.
/// Postcopy is not part of it; its handlers are not called.
/// </summary>
public sealed class SaveVmSource
{
    private readonly SaveVmSourceOptions _options;
    private readonly ILogger _logger;
    private readonly IReadOnlyList<SaveVmEntry> _entries;

    /// <summary>A migration of what is registered now.</summary>
    /// <param name="registry">The devices.</param>
    /// <param name="options">How to drive it.</param>
    /// <param name="logger">Gets the phases; null for none.</param>
    /// <exception cref="ArgumentException">Options that contradict each other.</exception>
    public SaveVmSource(SaveVmRegistry registry, SaveVmSourceOptions options, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(registry);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxBandwidth ?? 1, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxRounds ?? 1, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.DowntimeLimit, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(options.Turn, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(options.MaxDuration ?? TimeSpan.MaxValue, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfNegative(options.MultifdChannels);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.MultifdChannels, SaveVmSourceOptions.MostMultifdChannels);
        if (options.SwitchoverAck && !options.ReturnPath)
        {
            throw new ArgumentException("The switchover's acknowledgement comes over the return path, which is off.", nameof(options));
        }

        _entries = registry.Entries;
        _options = options;
        _logger = logger ?? NullLogger.Instance;
    }

    /// <summary>Drives the migration to its end.</summary>
    /// <param name="open">
    /// Opens the connection within the given bounds, after the devices have agreed to migrate; with multifd channels called once more
    /// for each of them. The streams stay the caller's, who disposes them after this call.
    /// </param>
    /// <param name="scope">The deadline of every wait and of every handler, and cancellation.</param>
    /// <exception cref="SaveVmException">It failed; every cleanup has been called, and the device goes on.</exception>
    /// <exception cref="WireException">The connection could not be opened.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; as after a failure.</exception>
    public MigrationStreamTransfer Run(Func<IoScope, Stream> open, IoScope scope)
    {
        ArgumentNullException.ThrowIfNull(open);
        ArgumentNullException.ThrowIfNull(scope);
        var threads = new ProgressWatch(Timeout.InfiniteTimeSpan, scope.CancellationToken);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(threads.Token);
        var inner = new IoScope(scope.Timeout, end.Token);
        int count = _options.MultifdChannels;
        EntryContext[] contexts = [.. _entries.Select(e => new EntryContext(e, isSource: true, approve: null, threads.Token) { Channels = count })];
        var channels = count == 0 ? null : new OutgoingChannels(count, threads, inner);
        var session = new SourceSession(contexts, _options, channels, inner, _logger);
        var (failure, leftBehind) = HandlerWatch.Run("migration source", scope.Timeout, watch => session.Migrate(watch, open), threads.Token);
        failure = session.Reason(threads.Blame(failure));
        end.Cancel();
        session.Dispose();
        leftBehind |= channels?.End() == false;
        var warnings = CleanupRun.All(contexts, SaveVmHandler.SaveCleanup, scope);
        foreach (string warning in warnings)
        {
            SaveVmLog.Warning(_logger, warning);
        }

        if (!leftBehind)
        {
            channels?.Dispose();
            inner.Dispose();
            threads.Dispose();
        }

        if (failure is null)
        {
            return session.Result(warnings);
        }

        SaveVmLog.Failed(_logger, "source", failure.Message);
        if (session.DeviceStopped)
        {
            Resume(failure);
        }

        HandlerWatch.Throw(failure);
        throw failure;
    }

    private void Resume(Exception failure)
    {
        try
        {
            _options.ResumeDevice?.Invoke();
            SaveVmLog.Phase(_logger, "the device goes on");
        }
        catch (Exception e)
        {
            throw new SaveVmException(SaveVmError.HandlerFailed,
                $"{failure.Message} And the device could not be resumed: {e.Message}", failure, "Resume the device by hand, then look at the cause.");
        }
    }
}
