using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
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
public sealed class SaveVmTarget
{
    private readonly IReadOnlyList<SaveVmEntry> _entries;
    private SaveVmTargetOptions _options;
    private readonly ILogger _logger;
    private TargetSession? _paused;

    /// <summary>A migration into what is registered now.</summary>
    /// <param name="registry">The devices.</param>
    /// <param name="options">How to drive it.</param>
    /// <param name="logger">Gets the phases; null for none.</param>
    public SaveVmTarget(SaveVmRegistry registry, SaveVmTargetOptions options, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(registry);
        ArgumentNullException.ThrowIfNull(options);
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

        _entries = registry.Entries;
        _options = options;
        _logger = logger ?? NullLogger.Instance;
    }

    /// <summary>True while a migration that broke after the device was started here keeps its state for <see cref="Resume"/>.</summary>
    public bool IsPaused => _paused is not null;

    /// <summary>How it is driven.</summary>
    public SaveVmTargetOptions Options => _options;

    /// <summary>The devices that take part.</summary>
    public IReadOnlyList<SaveVmEntry> Entries => _entries;

    /// <summary>Drives the migration to its end.</summary>
    /// <param name="open">
    /// Opens a connection within the given bounds; with multifd channels called once more for each of them, and the connections may
    /// come in any order. The streams stay the caller's, who disposes them after this call.
    /// </param>
    /// <param name="scope">The deadline of every wait and of every handler, and cancellation.</param>
    /// <exception cref="SaveVmException">
    /// It failed. Before the device was started: every cleanup has been called, and what was loaded is not usable. After it:
    /// <see cref="MigrationOpsException.Owner"/> says that the VM is here, and <see cref="IsPaused"/> whether the rest can still come.
    /// </exception>
    /// <exception cref="WireException">The connection could not be opened.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; as after a failure, also when it is then paused.</exception>
    public MigrationStreamTransfer Run(Func<TransferScope, Stream> open, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(open);
        ArgumentNullException.ThrowIfNull(scope);
        MustBePaused(false);
        var session = new TargetSession(_entries, _options, _logger);
        return Drive(session, scope, watch => session.Load(watch, open));
    }

    /// <summary>Goes on with a paused migration over a new connection from the source, to its end.</summary>
    /// <param name="open">Opens the connection. The stream stays the caller's.</param>
    /// <param name="scope">As for <see cref="Run"/>.</param>
    /// <param name="options">Other callbacks from now on; null keeps the ones before.</param>
    /// <exception cref="SaveVmException">It failed and is paused again; or nothing is paused: <see cref="SaveVmError.WrongPhase"/>.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled, and is paused again.</exception>
    public MigrationStreamTransfer Resume(Func<TransferScope, Stream> open, TransferScope scope, SaveVmTargetOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(open);
        ArgumentNullException.ThrowIfNull(scope);
        var session = MustBePaused(true)!;
        _options = options ?? _options;
        _paused = null;
        return Drive(session, scope, watch => session.Recover(watch, open));
    }

    /// <summary>Gives a paused migration up: calls every cleanup. The device runs on without what has not come.</summary>
    /// <param name="scope">The deadline of each cleanup.</param>
    /// <returns>What went wrong in the cleanups.</returns>
    /// <exception cref="SaveVmException"><see cref="SaveVmError.WrongPhase"/>: nothing is paused.</exception>
    public IReadOnlyList<string> Abandon(TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(scope);
        var session = MustBePaused(true)!;
        _paused = null;
        return Clean(session, session.Owner, scope);
    }

    private MigrationStreamTransfer Drive(TargetSession session, TransferScope scope, Action<HandlerWatch> body)
    {
        var run = scope.Nest();
        var inner = run.Until();
        session.Begin(_options, run, inner);
        var (failure, leftBehind) = HandlerWatch.Run("migration target", scope.Timeout, body, run.CancellationToken);
        failure = run.FirstFailure(failure);
        if (failure is not null)
        {
            failure = session.Fail(failure, run);
            SaveVmLog.Failed(_logger, "target", failure.Message);
        }

        inner.Cancel();
        leftBehind |= !session.EndThreads();
        session.EndSpool();
        bool pauses = failure is not null && session.Postcopy.Runs && !leftBehind;
        var warnings = pauses ? [] : Clean(session, failure is null ? MigrationOwner.Target : session.Owner, scope);
        if (!leftBehind)
        {
            session.Dispose();
            inner.Dispose();
            run.Dispose();
        }

        if (failure is null)
        {
            return session.Result(warnings);
        }

        if (pauses)
        {
            session.Postcopy.Pause();
            _paused = session;
            failure = failure is OperationCanceledException ? failure : Paused(failure);
        }

        if (failure is MigrationOpsException known)
        {
            known.Owner = session.Owner;
        }

        HandlerWatch.Throw(failure);
        throw failure;
    }

    private static SaveVmException Paused(Exception failure) => new(SaveVmError.PostcopyPaused,
        $"{failure.Message} The VM runs here and lacks what has not come; the migration is paused.", failure,
        "Bring the connection back, then resume: Receive-MigrationStream -Resume here, and Send-MigrationStream -Resume on the source. Do not start the device on the source.")
    {
        Section = (failure as MigrationOpsException)?.Section,
        ByteOffset = (failure as MigrationOpsException)?.ByteOffset,
    };

    private List<string> Clean(TargetSession session, MigrationOwner owner, TransferScope scope)
    {
        foreach (var context in session.Contexts)
        {
            context.EndedWith = owner;
        }

        var warnings = CleanupRun.All(session.Contexts, SaveVmHandler.LoadCleanup, scope);
        foreach (string warning in warnings)
        {
            SaveVmLog.Warning(_logger, warning);
        }

        return warnings;
    }

    private TargetSession? MustBePaused(bool paused) => IsPaused == paused ? _paused
        : throw new SaveVmException(SaveVmError.WrongPhase, paused ? "No migration is paused here." : "A migration is paused here.");
}
