using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>Calls handlers under the watch, and gives their failures a name, a section and a byte.</summary>
internal sealed class HandlerCaller(HandlerWatch watch, Func<long> offset, Func<Exception?> streamFailure, TransferScope scope)
{
    /// <summary>Calls one handler.</summary>
    internal T Call<T>(SaveVmEntry entry, SaveVmHandler handler, Func<T> body) => Call(entry, handler, null, body);

    /// <summary>Calls a member of <see cref="ISaveVmPages"/>.</summary>
    internal T Call<T>(SaveVmEntry entry, string member, Func<T> body) => Call(entry, SaveVmHandler.None, member, body);

    private T Call<T>(SaveVmEntry entry, SaveVmHandler handler, string? member, Func<T> body)
    {
        Enter(entry, handler, member);
        T result;
        try
        {
            result = body();
        }
        catch (Exception e)
        {
            throw Named(entry, member ?? handler.ToString(), e);
        }
        finally
        {
            watch.Exit();
        }

        return streamFailure() is { } failure ? throw failure : result;
    }

    /// <summary>Calls one handler that gives nothing back. Every section is loaded so: it makes no function around the caller's.</summary>
    internal void Call(SaveVmEntry entry, SaveVmHandler handler, Action body)
    {
        Enter(entry, handler, null);
        try
        {
            body();
        }
        catch (Exception e)
        {
            throw Named(entry, handler.ToString(), e);
        }
        finally
        {
            watch.Exit();
        }

        if (streamFailure() is { } failure)
        {
            throw failure;
        }
    }

    private void Enter(SaveVmEntry entry, SaveVmHandler handler, string? member)
    {
        scope.CancellationToken.ThrowIfCancellationRequested();
        watch.Enter(() => new SaveVmException(SaveVmError.HandlerTimeout,
            $"{member ?? handler.ToString()} of {Name(entry)} neither moved a byte nor returned within {scope.Timeout.TotalSeconds:0.###} s, at byte {offset():N0} of the stream.")
        { Section = Name(entry), ByteOffset = offset(), Target = entry.ToString() });
    }

    /// <summary>Asks whether a device takes part, if it has the handler; a device that does not say is active.</summary>
    internal bool IsActive(EntryContext context)
        => !context.Entry.Has(SaveVmHandler.IsActive)
            || Call(context.Entry, SaveVmHandler.IsActive, () => context.Entry.Handlers.IsActive(context));

    /// <summary>Stops or starts the device: code of the caller, watched as a handler is.</summary>
    internal void Device(string done, Action? action)
    {
        if (action is null)
        {
            return;
        }

        watch.Enter(() => new SaveVmException(SaveVmError.HandlerTimeout,
            $"The device was not {done} within {scope.Timeout.TotalSeconds:0.###} s, at byte {offset():N0} of the stream.")
        { ByteOffset = offset() });
        try
        {
            action();
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            throw new SaveVmException(SaveVmError.HandlerFailed,
                $"The device could not be {done}, at byte {offset():N0} of the stream: {e.Message}", e)
            { ByteOffset = offset() };
        }
        finally
        {
            watch.Exit();
        }
    }

    /// <summary>Calls a cleanup: it runs whatever happened, and its failure is a warning.</summary>
    internal string? Cleanup(SaveVmEntry entry, SaveVmHandler handler, Action body)
    {
        watch.Enter(() => new SaveVmException(SaveVmError.HandlerTimeout,
            $"{handler} of {Name(entry)} did not return; it was left behind.")
        { Section = Name(entry), Target = entry.ToString() });
        try
        {
            body();
            return null;
        }
        catch (Exception e)
        {
            return $"{handler} of {Name(entry)} failed: {e.Message}";
        }
        finally
        {
            watch.Exit();
        }
    }

    /// <summary>How errors call a device: its name and section id.</summary>
    internal static string Name(SaveVmEntry entry) => $"section {entry.SectionId} ({entry})";

    private Exception Named(SaveVmEntry entry, string handler, Exception failure)
    {
        if (failure is OperationCanceledException && scope.CancellationToken.IsCancellationRequested)
        {
            return failure;
        }

        return streamFailure() ?? new SaveVmException(SaveVmError.HandlerFailed,
            $"{handler} of {Name(entry)} failed at byte {offset():N0} of the stream: {failure.Message}", failure)
        { Section = Name(entry), ByteOffset = offset(), Target = entry.ToString() };
    }
}

/// <summary>One entry's part in one migration.</summary>
internal sealed class EntryContext(SaveVmEntry entry, bool isSource, Action<EntryContext>? approve, CancellationToken cancellationToken) : SaveVmContext
{
    /// <inheritdoc/>
    public override string IdStr => entry.IdStr;

    /// <inheritdoc/>
    public override uint InstanceId => entry.InstanceId;

    /// <inheritdoc/>
    public override int VersionId => entry.VersionId;

    /// <inheritdoc/>
    public override bool IsSource => isSource;

    /// <inheritdoc/>
    public override CancellationToken CancellationToken => cancellationToken;

    internal SaveVmEntry Entry => entry;

    /// <summary>How many multifd channels the migration has.</summary>
    internal int Channels { get; init; }

    /// <summary>Whether the switchover waits for the target.</summary>
    internal bool AwaitsAck { get; init; }

    /// <summary>The load threads on the target.</summary>
    internal LoadThreads? LoadThreads { get; set; }

    /// <summary>How it ended.</summary>
    internal MigrationOwner? EndedWith { get; set; }

    /// <inheritdoc/>
    public override int MultifdChannels => Channels;

    /// <inheritdoc/>
    public override bool SwitchoverAck => AwaitsAck;

    /// <inheritdoc/>
    public override CancellationToken StreamEnded => LoadThreads?.StreamEnded ?? CancellationToken.None;

    /// <inheritdoc/>
    public override MigrationOwner? Owner => EndedWith;

    /// <summary>Target: takes wishes for pages, once it listens.</summary>
    internal Action<SaveVmPages>? PagesWanted { get; set; }

    /// <summary>Source: asks the target for a bitmap, while the migration is being resumed.</summary>
    internal Func<string, byte[]>? ReceivedPagesAsked { get; set; }

    /// <inheritdoc/>
    public override void ApproveSwitchover()
    {
        if (approve is null)
        {
            throw new InvalidOperationException($"{entry} is on the source; the target's device approves the switchover.");
        }

        approve(this);
    }

    /// <inheritdoc/>
    public override void StartLoadThread(Action<CancellationToken> body)
    {
        ArgumentNullException.ThrowIfNull(body);
        (LoadThreads ?? throw new InvalidOperationException($"{entry} is on the source, which loads nothing.")).Start(this, body);
    }

    public override void RequestPages(SaveVmPages pages) => (PagesWanted
        ?? throw new InvalidOperationException($"{entry} can ask for pages only on a target that has switched to postcopy."))(pages);

    /// <inheritdoc/>
    public override byte[] ReadReceivedPages(string block) => (ReceivedPagesAsked
        ?? throw new InvalidOperationException($"{entry} can ask for the received pages only on the source, in ResumePrepare."))(block);

    /// <summary>The same device in the next run of a paused migration, which has its own cancellation.</summary>
    internal void Renew(CancellationToken token) => cancellationToken = token;

    /// <summary>The same on the target, where each run has its own threads and its own return path too.</summary>
    internal void Renew(LoadThreads threads, Action<EntryContext> approving, CancellationToken token)
        => (cancellationToken, LoadThreads, approve) = (token, threads, approving);
}
