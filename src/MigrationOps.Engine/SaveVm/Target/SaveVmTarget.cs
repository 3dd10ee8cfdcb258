using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The target driver: loads a stream's sections into the registered devices.
/// <code>
/// [all channels connect] → header → [configuration] → load_setup → [who needs the acknowledgement?]
///        → ( section, footer | command )*, and beside them packets and load threads → EOF
///        → load threads and channels have ended → tell the source → [description] → load_cleanup
///   postcopy: … ADVISE … PACKAGED( LISTEN, FULL sections, RUN ) → load threads have ended → the device runs
///             and beside the package, from LISTEN on: ( section )* → EOF → the package is loaded → …
///             a failure after RUN leads to paused → Resume → RESUME → ( section )* … or to Abandon → load_cleanup
/// </code>
/// A section of a device that is not registered is an error, or kept in <see cref="SaveVmTargetOptions.SpoolPath"/>.
/// A failure before the device runs is told to the source, if it can be, before every cleanup is called.
/// </summary>
internal sealed class SaveVmTarget : MigrationDriver<SaveVmTargetOptions, TargetSession>
{
    /// <summary>A migration into what is registered now.</summary>
    /// <param name="registry">The devices.</param>
    /// <param name="options">How to drive it.</param>
    /// <param name="logger">Gets the phases; null for none.</param>
    /// <exception cref="ArgumentException">Options that contradict each other.</exception>
    internal SaveVmTarget(SaveVmRegistry registry, SaveVmTargetOptions options, ILogger? logger = null)
        : base(registry, options, SaveVmHandler.LoadCleanup, logger)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(options.MultifdChannels);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxPackage, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.MultifdChannels, SaveVmSourceOptions.MostMultifdChannels);
        if (options.Postcopy && options.SpoolPath is not null)
        {
            throw new ArgumentException("A spool file cannot ask for the memory that postcopy leaves behind, and the stream has no description by which its lengths can be checked.", nameof(options));
        }

        if (options.SwitchoverAck && !options.ReturnPath)
        {
            throw new ArgumentException("The switchover's acknowledgement goes over the return path, which the connection does not have.", nameof(options));
        }

        if (options.RequireReturnPath && !options.ReturnPath)
        {
            throw new ArgumentException("The return path is required, and the connection does not have it.", nameof(options));
        }
    }

    private protected override MigrationStreamTransfer Start(Func<TransferScope, Stream> open, TransferScope scope)
    {
        var session = new TargetSession(Entries, Options, Log);
        return Drive(session, Options.MultifdChannels, scope, (run, threads) => session.Load(run, threads, open));
    }

    // A migration that is resumed has come to its switch, with which the channels have ended.
    private protected override MigrationStreamTransfer Continue(TargetSession session, Func<TransferScope, Stream> open, TransferScope scope)
        => Drive(session, 0, scope, (run, threads) => session.Recover(run, threads, Options, open));

    // Handlers and threads live in one scope, which ends with the first failure; their waits in another, which ends with the driver's own part.
    private MigrationStreamTransfer Drive(TargetSession session, int channels, TransferScope scope, Action<MigrationRun, TargetThreads> body)
    {
        var handlers = scope.Nest();
        var waits = handlers.Until();
        var threads = session.Begin(channels, handlers, waits);
        var (failure, leftBehind) = HandlerWatch.Run("migration target", scope.Timeout,
            watch => body(MigrationRun.Begin(waits, watch, Log), threads), handlers.CancellationToken);
        failure = handlers.FirstFailure(failure);
        if (failure is not null)
        {
            failure = session.Fail(failure, handlers, threads);
            SaveVmLog.Failed(Log, "target", failure.Message);
        }

        waits.Cancel();
        leftBehind |= !threads.End();
        session.EndSpool();
        bool pauses = failure is not null && session.Runs && !leftBehind;
        var warnings = pauses ? [] : Clean(session, failure is null ? MigrationOwner.Target : session.Owner, scope);
        if (!leftBehind)
        {
            threads.Dispose();
            waits.Dispose();
            handlers.Dispose();
        }

        if (failure is null)
        {
            var result = session.Result(threads.Channels, warnings);
            TransferMetrics.Record("migration-stream", "receive", result.Bytes + result.ChannelBytes, result.Duration);
            return result;
        }

        if (pauses)
        {
            session.PausePostcopy();
            Pause(session);
            failure = failure is OperationCanceledException ? failure : Paused(failure);
        }

        HandlerWatch.Throw(WithOwner(failure, session.Owner));
        throw failure;
    }

    private static SaveVmException Paused(Exception failure) => new(SaveVmError.PostcopyPaused,
        $"{failure.Message} The VM runs here and lacks what has not come; the migration is paused.", failure,
        "Bring the connection back, then resume here first, and then on the source. Do not start the device on the source.")
    {
        Section = (failure as MigrationOpsException)?.Section,
        ByteOffset = (failure as MigrationOpsException)?.ByteOffset,
    };
}
