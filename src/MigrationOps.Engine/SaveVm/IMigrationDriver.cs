using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>One side of a migration: runs it, and keeps it for a resumption if it breaks after the switch to postcopy.</summary>
internal interface IMigrationDriver
{
    /// <summary>True while a migration that broke after its switch keeps its state.</summary>
    bool IsPaused { get; }

    /// <summary>The devices that take part.</summary>
    IReadOnlyList<SaveVmEntry> Entries { get; }

    /// <summary>Drives the migration to its end.</summary>
    /// <param name="open">
    /// Opens a connection within the given bounds; with multifd channels called once more for each of them. The streams stay the
    /// caller's, who disposes them after this call.
    /// </param>
    /// <param name="scope">The deadline of every wait and of every handler, and cancellation.</param>
    /// <exception cref="MigrationOpsException">
    /// It failed; <see cref="MigrationOpsException.Owner"/> says whose the VM is, and <see cref="IsPaused"/> whether it can be resumed.
    /// If it cannot, every cleanup has been called.
    /// </exception>
    /// <exception cref="WireException">The connection could not be opened.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; as after a failure, also when it is then paused.</exception>
    MigrationStreamTransfer Run(Func<TransferScope, Stream> open, TransferScope scope);

    /// <summary>Gives a paused migration up: calls every cleanup. What had not been transferred is lost.</summary>
    /// <param name="scope">The deadline of each cleanup.</param>
    /// <returns>What went wrong in the cleanups.</returns>
    /// <exception cref="SaveVmException"><see cref="SaveVmError.WrongPhase"/>: nothing is paused.</exception>
    IReadOnlyList<string> Abandon(TransferScope scope);
}

/// <summary>What of a migration outlives its connections.</summary>
internal interface IMigrationSession : IDisposable
{
    /// <summary>The devices' parts in it.</summary>
    IReadOnlyList<EntryContext> Contexts { get; }

    /// <summary>Whose the VM is, should the migration fail now.</summary>
    MigrationOwner Owner { get; }
}

/// <summary>What the drivers of both sides have in common: the paused migration, and its end.</summary>
/// <typeparam name="TOptions">How this side is driven.</typeparam>
/// <typeparam name="TSession">What outlives the connections of this side.</typeparam>
internal abstract class MigrationDriver<TOptions, TSession> : IMigrationDriver
    where TOptions : class
    where TSession : class, IMigrationSession
{
    private readonly SaveVmHandler _cleanup;
    private TSession? _paused;

    /// <summary>A migration of what is registered now.</summary>
    private protected MigrationDriver(SaveVmRegistry registry, TOptions options, SaveVmHandler cleanup, ILogger? logger)
    {
        ArgumentNullException.ThrowIfNull(registry);
        ArgumentNullException.ThrowIfNull(options);
        _cleanup = cleanup;
        Entries = registry.Entries;
        Options = options;
        Log = logger ?? NullLogger.Instance;
    }

    /// <inheritdoc/>
    public bool IsPaused => _paused is not null;

    /// <inheritdoc/>
    public IReadOnlyList<SaveVmEntry> Entries { get; }

    /// <summary>How it is driven.</summary>
    public TOptions Options { get; private set; }

    private protected ILogger Log { get; }

    /// <inheritdoc/>
    public MigrationStreamTransfer Run(Func<TransferScope, Stream> open, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(open);
        ArgumentNullException.ThrowIfNull(scope);
        if (IsPaused)
        {
            throw new SaveVmException(SaveVmError.WrongPhase, "A migration is paused here.");
        }

        return Start(open, scope);
    }

    /// <summary>Continues a paused migration over a new connection, to its end.</summary>
    /// <param name="open">Opens the connection. The stream stays the caller's.</param>
    /// <param name="scope">As for <see cref="Run"/>.</param>
    /// <param name="options">Other callbacks and limits from now on; what the stream's head has fixed stays. Null keeps all.</param>
    /// <exception cref="SaveVmException">It failed and is paused again; or nothing is paused: <see cref="SaveVmError.WrongPhase"/>.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled, and is paused again.</exception>
    public MigrationStreamTransfer Resume(Func<TransferScope, Stream> open, TransferScope scope, TOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(open);
        ArgumentNullException.ThrowIfNull(scope);
        var session = TakePaused();
        Options = options ?? Options;
        return Continue(session, open, scope);
    }

    /// <inheritdoc/>
    public IReadOnlyList<string> Abandon(TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(scope);
        var session = TakePaused();
        return Clean(session, session.Owner, scope);
    }

    private protected abstract MigrationStreamTransfer Start(Func<TransferScope, Stream> open, TransferScope scope);

    private protected abstract MigrationStreamTransfer Continue(TSession session, Func<TransferScope, Stream> open, TransferScope scope);

    /// <summary>Keeps the session for a resumption.</summary>
    private protected void Pause(TSession session) => _paused = session;

    /// <summary>Calls every cleanup.</summary>
    /// <returns>What went wrong in them.</returns>
    private protected List<string> Clean(TSession session, MigrationOwner owner, TransferScope scope)
    {
        session.Dispose();
        foreach (var context in session.Contexts)
        {
            context.EndedWith = owner;
        }

        var warnings = CleanupRun.All(session.Contexts, _cleanup, scope);
        foreach (string warning in warnings)
        {
            SaveVmLog.Warning(Log, warning);
        }

        return warnings;
    }

    /// <summary>Says whose the VM is in a failure that can say it.</summary>
    private protected static Exception WithOwner(Exception failure, MigrationOwner owner)
    {
        if (failure is MigrationOpsException known)
        {
            known.Owner = owner;
        }

        return failure;
    }

    private TSession TakePaused()
    {
        var session = _paused ?? throw new SaveVmException(SaveVmError.WrongPhase, "No migration is paused here.");
        _paused = null;
        return session;
    }
}
