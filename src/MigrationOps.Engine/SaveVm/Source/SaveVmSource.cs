using System.Text;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The source driver: brings the registered devices over on one connection, with multifd channels beside it, with a switch to
/// postcopy, or with both.
/// <code>
/// prepare → [channels] → header, configuration → [return path] → [ADVISE] → setup → ( iterate → pending? )* → stop the device
///         → [SWITCHOVER_START] → END sections, and beside them a worker per device that sends packets → FULL sections
///         → EOF → [description] → [target confirms] → cleanup
///   postcopy: … stop the device → END of who cannot do postcopy → package, RUN → ( iterate )* → END of the others → EOF → …
///             from RUN on a failure leads to paused → Resume → RESUME_ACK → ( iterate )* … or to Abandon → cleanup
/// </code>
/// From every state before RUN a failure or a cancellation leads to cleanup, and to resuming the device if it had been stopped.
/// After RUN the VM may run on the target, so that the device is not resumed here; the failure says whose the VM is.
/// </summary>
public sealed class SaveVmSource
{
    private SaveVmSourceOptions _options;
    private readonly ILogger _logger;
    private readonly IReadOnlyList<SaveVmEntry> _entries;
    private SourceSession? _paused;

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
        ArgumentOutOfRangeException.ThrowIfNegative(options.PostcopyAfter);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxPostcopyBandwidth ?? 1, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxPackage, 1);
        if ((options.SwitchoverAck || options.Postcopy) && !options.ReturnPath)
        {
            throw new ArgumentException(options.Postcopy ? "Postcopy needs the return path, which is off."
                : "The switchover's acknowledgement comes over the return path, which is off.", nameof(options));
        }

        if (options.MachineType is { } machine && Encoding.UTF8.GetByteCount(machine) is 0 or > StreamFormat.MaxMachineType)
        {
            throw new SaveVmException(SaveVmError.InvalidName, $"The machine type has {machine.Length:N0} characters; a stream has room for 1 to {StreamFormat.MaxMachineType:N0} bytes.",
                action: "Give the name of a machine type, such as pc-q35-10.0.");
        }

        _entries = registry.Entries;
        _options = options;
        _logger = logger ?? NullLogger.Instance;
    }

    /// <summary>True while a migration that broke after its switch to postcopy keeps its state for <see cref="Resume"/>.</summary>
    public bool IsPaused => _paused is not null;

    /// <summary>How it is driven.</summary>
    public SaveVmSourceOptions Options => _options;

    /// <summary>The devices that take part.</summary>
    public IReadOnlyList<SaveVmEntry> Entries => _entries;

    /// <summary>Drives the migration to its end.</summary>
    /// <param name="open">
    /// Opens the connection within the given bounds, after the devices have agreed to migrate; with multifd channels called once more
    /// for each of them. The streams stay the caller's, who disposes them after this call.
    /// </param>
    /// <param name="scope">The deadline of every wait and of every handler, and cancellation.</param>
    /// <exception cref="SaveVmException">
    /// It failed. Before the target may have run: every cleanup has been called, and the device goes on. After it:
    /// <see cref="MigrationOpsException.Owner"/> says whose the VM is, and <see cref="IsPaused"/> whether it can be resumed.
    /// </exception>
    /// <exception cref="WireException">The connection could not be opened.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; as after a failure, also when it is then paused.</exception>
    public MigrationStreamTransfer Run(Func<TransferScope, Stream> open, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(open);
        ArgumentNullException.ThrowIfNull(scope);
        MustBePaused(false);
        int channels = _options.MultifdChannels;
        var session = new SourceSession(
            [.. _entries.Select(e => new EntryContext(e, isSource: true, approve: null, scope.CancellationToken)
            {
                Channels = channels,
                AwaitsAck = _options.SwitchoverAck,
            })], _options, _logger);
        return Drive(session, channels, scope, watch => session.Migrate(watch, open));
    }

    /// <summary>Goes on with a paused migration over a new connection, to its end.</summary>
    /// <param name="open">Opens the connection to the target, which waits for it. The stream stays the caller's.</param>
    /// <param name="scope">As for <see cref="Run"/>.</param>
    /// <param name="options">Other callbacks and limits from now on; what the stream's head has fixed stays.</param>
    /// <exception cref="SaveVmException">It failed and is paused again; or nothing is paused: <see cref="SaveVmError.WrongPhase"/>.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled, and is paused again.</exception>
    public MigrationStreamTransfer Resume(Func<TransferScope, Stream> open, TransferScope scope, SaveVmSourceOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(open);
        ArgumentNullException.ThrowIfNull(scope);
        var session = MustBePaused(true)!;
        session.Options = _options = options ?? _options;
        _paused = null;
        return Drive(session, 0, scope, watch => session.Recover(watch, open));
    }

    /// <summary>
    /// Gives a paused migration up: calls every cleanup. What had not been sent is lost. The device is not resumed: the
    /// caller alone can know that it does not run on the target.
    /// </summary>
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

    private MigrationStreamTransfer Drive(SourceSession session, int count, TransferScope scope, Action<HandlerWatch> body)
    {
        var run = scope.Nest();
        var inner = run.Until();
        var channels = count == 0 ? null : new OutgoingChannels(count, inner);
        session.Begin(channels, inner, run.CancellationToken);
        var (failure, leftBehind) = HandlerWatch.Run("migration source", scope.Timeout, body, run.CancellationToken);
        failure = session.ReturnPath.Explain(run.FirstFailure(failure));
        if (failure is not null)
        {
            session.ReturnPath.Judge(failure);
        }

        inner.Cancel();
        session.ReturnPath.Close();
        leftBehind |= channels?.End() == false;
        if (!leftBehind)
        {
            channels?.Dispose();
            inner.Dispose();
            run.Dispose();
        }

        if (failure is not null && session.Owner != MigrationOwner.Source)
        {
            throw Late(session, failure, leftBehind, scope);
        }

        var warnings = Clean(session, failure is null ? MigrationOwner.Target : session.Owner, scope);
        if (failure is null)
        {
            return session.Result(warnings);
        }

        SaveVmLog.Failed(_logger, "source", failure.Message);
        Own(failure, MigrationOwner.Source);
        if (session.DeviceStopped)
        {
            GoOn(failure);
        }

        HandlerWatch.Throw(failure);
        throw failure;
    }

    // The target may run: nothing here may bring the device back, and what it still waits for must not be thrown away.
    private Exception Late(SourceSession session, Exception failure, bool leftBehind, TransferScope scope)
    {
        var owner = session.Owner;
        string whose = owner == MigrationOwner.Target ? "The VM belongs to the target" : "The VM may run on the target, which has not said so";
        string? obstacle = leftBehind ? "a handler was left behind" : session.Postcopy!.Obstacle;
        SaveVmException thrown;
        if (obstacle is null)
        {
            _paused = session;
            thrown = new SaveVmException(SaveVmError.PostcopyPaused,
                $"{failure.Message} The migration is paused after its switch to postcopy. {whose}; the device stays stopped here.", failure)
            { Section = (failure as MigrationOpsException)?.Section, ByteOffset = (failure as MigrationOpsException)?.ByteOffset };
        }
        else
        {
            Clean(session, owner, scope);
            thrown = new SaveVmException((failure as SaveVmException)?.Reason ?? SaveVmError.HandlerFailed,
                $"{failure.Message} The migration had switched to postcopy and cannot be resumed, because {obstacle}. {whose}; the device stays stopped here.",
                failure, "Look at the target: its VM lacks what had not been sent. Start only one of both.");
        }

        SaveVmLog.Failed(_logger, "source", thrown.Message);
        if (failure is OperationCanceledException)
        {
            return failure;
        }

        return Own(thrown, owner);
    }

    private List<string> Clean(SourceSession session, MigrationOwner owner, TransferScope scope)
    {
        session.Dispose();
        foreach (var context in session.Contexts)
        {
            context.EndedWith = owner;
        }

        var warnings = CleanupRun.All(session.Contexts, SaveVmHandler.SaveCleanup, scope);
        foreach (string warning in warnings)
        {
            SaveVmLog.Warning(_logger, warning);
        }

        return warnings;
    }

    private SourceSession? MustBePaused(bool paused) => IsPaused == paused ? _paused
        : throw new SaveVmException(SaveVmError.WrongPhase, paused ? "No migration is paused here." : "A migration is paused here.");

    private static Exception Own(Exception failure, MigrationOwner owner)
    {
        if (failure is MigrationOpsException known)
        {
            known.Owner = owner;
        }

        return failure;
    }

    private void GoOn(Exception failure)
    {
        try
        {
            _options.ResumeDevice?.Invoke();
            SaveVmLog.Phase(_logger, "the device goes on");
        }
        catch (Exception e)
        {
            throw new SaveVmException(SaveVmError.HandlerFailed,
                $"{failure.Message} And the device could not be resumed: {e.Message}", failure, "Resume the device by hand, then look at the cause.")
            { Owner = MigrationOwner.Source };
        }
    }
}
