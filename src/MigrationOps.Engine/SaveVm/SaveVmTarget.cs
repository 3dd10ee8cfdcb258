using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The target driver: loads a stream's sections into the registered devices.
/// <code>
/// [all channels connect] → header → [configuration] → load_setup → [who needs the acknowledgement?]
///        → ( section, footer | command )*, and beside them packets and load threads → EOF
///        → load threads and channels have ended → tell the source → [description] → load_cleanup
/// </code>
/// A failure anywhere is told to the source, if it can be, before every cleanup is called. Streams with postcopy
/// are refused at their first postcopy command.
/// </summary>
public sealed class SaveVmTarget
{
    private readonly IReadOnlyList<SaveVmEntry> _entries;
    private readonly SaveVmTargetOptions _options;
    private readonly ILogger _logger;

    /// <summary>A migration into what is registered now.</summary>
    /// <param name="registry">The devices.</param>
    /// <param name="options">How to drive it.</param>
    /// <param name="logger">Gets the phases; null for none.</param>
    public SaveVmTarget(SaveVmRegistry registry, SaveVmTargetOptions options, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(registry);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfNegative(options.MultifdChannels);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.MultifdChannels, SaveVmSourceOptions.MostMultifdChannels);
        if (options.SwitchoverAck && !options.ReturnPath)
        {
            throw new ArgumentException("The switchover's acknowledgement goes over the return path, which the connection does not have.", nameof(options));
        }

        _entries = registry.Entries;
        _options = options;
        _logger = logger ?? NullLogger.Instance;
    }

    /// <summary>Drives the migration to its end.</summary>
    /// <param name="open">
    /// Opens a connection within the given bounds; with multifd channels called once more for each of them, and the connections may
    /// come in any order. The streams stay the caller's, who disposes them after this call.
    /// </param>
    /// <param name="scope">The deadline of every wait and of every handler, and cancellation.</param>
    /// <exception cref="SaveVmException">It failed; every cleanup has been called. What was loaded is not usable.</exception>
    /// <exception cref="WireException">The connection could not be opened.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; as after a failure.</exception>
    public MigrationStreamTransfer Run(Func<IoScope, Stream> open, IoScope scope)
    {
        ArgumentNullException.ThrowIfNull(open);
        ArgumentNullException.ThrowIfNull(scope);
        var threads = new ProgressWatch(Timeout.InfiniteTimeSpan, scope.CancellationToken);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(threads.Token);
        var inner = new IoScope(scope.Timeout, end.Token);
        var session = new TargetSession(_entries, _options, threads, inner, _logger);
        var (failure, leftBehind) = HandlerWatch.Run("migration target", scope.Timeout, watch => session.Load(watch, open), threads.Token);
        failure = threads.Blame(failure);
        if (failure is not null)
        {
            SaveVmLog.Failed(_logger, "target", failure.Message);
            session.TellFailure();
        }

        end.Cancel();
        leftBehind |= !session.EndThreads();
        var warnings = CleanupRun.All(session.Contexts, SaveVmHandler.LoadCleanup, scope);
        foreach (string warning in warnings)
        {
            SaveVmLog.Warning(_logger, warning);
        }

        if (!leftBehind)
        {
            session.Dispose();
            inner.Dispose();
            threads.Dispose();
        }

        if (failure is null)
        {
            return session.Result(warnings);
        }

        HandlerWatch.Throw(failure);
        throw failure;
    }
}
