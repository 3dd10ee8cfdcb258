namespace MigrationOps.Engine.SaveVm;

/// <summary>How far postcopy has come on the source, over all connections.</summary>
internal sealed class PostcopyProgress(IReadOnlyList<EntryContext> contexts) : IDisposable
{
    private volatile bool _started;
    private bool _targetFailed;

    /// <summary>What the target says.</summary>
    internal PostcopyAnswers Answers { get; } = new(contexts);

    /// <summary>The devices that are finished while the target runs.</summary>
    internal List<EntryContext> PostcopyDevices { get; } = [];

    /// <summary>True once the target may run.</summary>
    internal bool Started => _started;

    /// <summary>Whose the VM is.</summary>
    internal MigrationOwner Owner => (_started, Answers.PackageLoaded.WaitOne(0), _targetFailed) switch
    {
        (false, _, _) or (_, false, true) => MigrationOwner.Source,
        (_, true, false) => MigrationOwner.Target,
        _ => MigrationOwner.Unknown,
    };

    /// <summary>Why a broken migration cannot be resumed; null if it can.</summary>
    internal string? Obstacle => PostcopyDevices.Find(c => !c.Entry.Has(SaveVmHandler.ResumePrepare)) is { } late
        ? $"{HandlerCaller.Name(late.Entry)} does not offer {SaveVmHandler.ResumePrepare}"
        : null;

    /// <summary>RUN may leave from now on.</summary>
    internal void MarkStarted() => _started = true;

    /// <summary>The target continues over a new connection.</summary>
    internal void MarkResumed() => _targetFailed = false;

    /// <summary>Learns from a failure whose the VM is: what the target says may still be on its way.</summary>
    /// <param name="failure">How the migration failed here.</param>
    /// <param name="ended">Set once the target will say nothing more.</param>
    /// <param name="patience">How long that may take.</param>
    internal void ReadOutcome(Exception failure, WaitHandle ended, TimeSpan patience)
    {
        if (_started)
        {
            WaitHandle.WaitAny([Answers.PackageLoaded, ended], patience);
            _targetFailed = failure is SaveVmException { Reason: SaveVmError.TargetFailed };
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Answers.Dispose();
}
