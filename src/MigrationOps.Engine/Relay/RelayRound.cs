using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Relay;

/// <summary>
/// The connections of a migration from its first one to the end of its last one. A migration has one round; one that pauses in postcopy has
/// another one after each pause.
/// <code>
/// main ──connects first──→ multifd, preempt → … → all have ended, or one has failed, which ends the others
/// </code>
/// The target gets its connections in the same order as the source makes them, the main one first: one that cannot look ahead - inside TLS,
/// or with postcopy - takes them for what they are by that order.
/// </summary>
internal sealed class RelayRound : IDisposable
{
    // A source has all of its own at once, and each is two threads.
    private const int MostConnections = 2 * 256;

    private readonly MigrationRelay _relay;
    private readonly CancellationTokenSource _over = new();
    private readonly CancellationTokenSource _silentAllowed = new();
    private readonly List<SideThread> _threads = [];
    private readonly List<RelayConnection> _connections = [];
    private readonly Lock _lock = new();
    private bool _hasMain;
    private bool _mainConnected;

    internal RelayRound(MigrationRelay relay, TransferScope scope, RelayRound? paused)
    {
        _relay = relay;
        Scope = scope;
        Walker = paused?.Walker;
        Watch = paused?.Watch;
        IsResumed = paused is not null;
        if (State.MayUsePostcopy)
        {
            _silentAllowed.Cancel();
        }
    }

    /// <summary>Ends with the first failure of a connection.</summary>
    internal TransferScope Scope { get; }

    internal RelayState State => _relay.State;

    internal RelayFaults Faults => _relay.Faults;

    internal RelayFlow Flow => _relay.Flow;

    internal RelayOptions Options => _relay.Options;

    internal CancellationToken Cancelled => Scope.CancellationToken;

    /// <summary>True for the round after a pause: the main stream continues where it was.</summary>
    internal bool IsResumed { get; }

    /// <summary>Cancelled once a connection that says nothing may be one of the migration's.</summary>
    internal CancellationToken SilentAllowed => _silentAllowed.Token;

    /// <summary>What walks the main stream, and what it tells; kept for the round after a pause.</summary>
    internal StreamWalker? Walker { get; set; }

    internal MainWatch? Watch { get; set; }

    /// <summary>Opens the onward connection.</summary>
    internal FdStream Connect() => _relay.Connect(Scope);

    /// <summary>Does the handshake with the source, if there are credentials.</summary>
    internal Stream Protect(FdStream accepted) => _relay.Listener.Protect(accepted, Options.Timeout);

    /// <summary>Does the handshake with the target, if there are credentials.</summary>
    internal Stream ProtectTarget(FdStream socket) => _relay.ProtectTarget(socket);

    /// <summary>Where an archive keeps a stream; null without an archive.</summary>
    internal Stream? OpenRecord(int? channel) => _relay.OpenRecord(channel);

    /// <summary>Checks a channel's first message against those of the other channels.</summary>
    /// <exception cref="MultifdException">It is of another VM, or its number is taken.</exception>
    internal void CheckInit(ChannelInit init, string name)
    {
        foreach (var other in Channels)
        {
            if (other.Init!.Value.Uuid != init.Uuid)
            {
                throw MultifdException.At(MultifdError.UuidMismatch, name, 8, $"the channel is of machine {init.Uuid}, {other.Name} of machine {other.Init.Value.Uuid}");
            }

            if (other.Init.Value.Id == init.Id)
            {
                throw MultifdException.At(MultifdError.DuplicateChannel, name, 24, $"there is a channel {init.Id} already");
            }
        }
    }

    /// <summary>Which side closed the main connection first; null while it is open.</summary>
    internal RelayError? FirstToEnd { get; private set; }

    /// <summary>Accepts and serves connections until the migration's have ended.</summary>
    internal void Run()
    {
        using var accepting = Scope.Until(_over.Token);
        try
        {
            while (true)
            {
                Accept(_relay.Listener.AcceptUnprotected("a connection of a migration", Scope, accepting));
            }
        }
        catch (OperationCanceledException) when (_over.IsCancellationRequested || Cancelled.IsCancellationRequested)
        {
            // All have ended, or one has failed.
        }
        catch (Exception e)
        {
            Scope.Fail(e);
        }

        _threads.ForEach(t => t.Join());
    }

    /// <summary>A connection says that it is the main one.</summary>
    /// <returns>False if there is one already.</returns>
    internal bool TryTakeMain()
    {
        lock (_lock)
        {
            return !_hasMain && (_hasMain = true);
        }
    }

    internal bool HasMain
    {
        get
        {
            lock (_lock)
            {
                return _hasMain;
            }
        }
    }

    /// <summary>The main connection stands at the target: others may follow.</summary>
    internal void MainHasConnected() => State.Change(() => _mainConnected = true);

    /// <summary>Waits until the main connection stands at the target.</summary>
    internal void WaitForMain() => State.Await(() => _mainConnected, Timeout.InfiniteTimeSpan, () => new OperationCanceledException(), Cancelled);

    internal void AllowSilent() => _silentAllowed.Cancel();

    internal void NoteEnd(RelayError side)
    {
        lock (_lock)
        {
            FirstToEnd ??= side;
        }
    }

    /// <summary>Waits until each channel has passed on its SYNC packet for this flush of the main stream.</summary>
    internal void AwaitSyncs(long flush)
        => State.Await(() => HasSyncs(flush), Options.Timeout, () => MissingSyncs(flush), Cancelled);

    /// <summary>
    /// Waits until everything that has to come before the main stream's end has been passed on: a target that has the end waits for the
    /// rest for ever.
    /// </summary>
    /// <param name="flushes">How many flushes the main stream had; 0 where it does not say when its channels sync.</param>
    internal void AwaitRest(long flushes)
    {
        long Expected() => flushes > 0 ? flushes : Channels.Select(c => c.Syncs).DefaultIfEmpty().Max();
        State.Await(
            () => State.Devices.FindMissing() is null && (Expected() == 0 || HasSyncs(Expected())) && FindMissingChannel() is null, Options.Timeout,
            () => State.Devices.FindMissing() ?? (Exception?)FindMissingChannel() ?? MissingSyncs(Expected()), Cancelled);
    }

    /// <summary>Waits until the main stream has announced a device whose packet has come.</summary>
    internal void AwaitAnnouncement(string idStr, uint instance, string channel, long offset)
    {
        StreamException Unknown() => StreamException.In(StreamError.NotFound, channel, offset,
            $"the packet is for device '{idStr}' instance {instance}, which the main stream has not announced");
        State.Await(() => State.Devices.Knows(idStr, instance) || State.Phase >= RelayPhase.Switching, Options.Timeout, Unknown, Cancelled);
        if (!State.Devices.Knows(idStr, instance))
        {
            throw new RelayException(RelayError.UnknownDevice, Unknown().Message) { Section = channel, ByteOffset = offset };
        }
    }

    /// <summary>An element has come: puts the faults that are due at it where they strike.</summary>
    /// <param name="point">What it is.</param>
    /// <param name="pump">Carries it.</param>
    /// <param name="offset">Its first byte.</param>
    /// <param name="end">The byte behind it.</param>
    /// <param name="channel">Its connection.</param>
    /// <param name="passed">Done when it has been passed on as it was.</param>
    internal void Strike(RelayPoint point, RelayPump pump, long offset, long end, RelayChannel channel, Action? passed = null)
    {
        var due = Faults.At(point, channel.Init?.Id);
        foreach (var fault in due.Where(f => f.Moment == RelayMoment.Before || f.ChangesElement))
        {
            Arm(fault, pump, offset, end, channel);
        }

        if (passed is not null && !due.Any(f => f.ChangesElement))
        {
            pump.At(end, passed);
        }

        foreach (var fault in due.Where(f => f.Moment == RelayMoment.After && !f.ChangesElement))
        {
            Arm(fault, pump, offset, end, channel);
        }
    }

    /// <summary>Puts a fault where it strikes.</summary>
    /// <param name="fault">The fault.</param>
    /// <param name="pump">Carries the element.</param>
    /// <param name="offset">The element's first byte.</param>
    /// <param name="end">The byte behind it.</param>
    /// <param name="channel">Its connection.</param>
    internal void Arm(RelayFault fault, RelayPump pump, long offset, long end, RelayChannel channel)
    {
        switch (fault.Kind)
        {
            case RelayFaultKind.Damage:
                pump.Change(offset + fault.Byte, fault.Bytes);
                pump.At(offset, () => State.Strike(fault));
                break;
            case RelayFaultKind.Drop:
                pump.At(offset, () => pump.IsDropping = true);
                pump.At(end, () =>
                {
                    pump.IsDropping = false;
                    State.Strike(fault);
                });
                break;
            default:
                pump.At(fault.Moment == RelayMoment.Before ? offset : end, () => Strike(fault, channel));
                break;
        }
    }

    /// <summary>Arms the faults of a connection's first bytes.</summary>
    internal void ArmStart(RelayPump pump, RelayChannel channel, int? id)
    {
        foreach (var fault in Faults.At(RelayPoint.Start, id))
        {
            Arm(fault, pump, 0, 0, channel);
        }

        foreach (var fault in Faults.At(RelayPoint.Byte, id))
        {
            Arm(fault.Kind == RelayFaultKind.Damage ? fault with { Byte = 0 } : fault, pump, fault.Byte, fault.Byte, channel);
        }
    }

    public void Dispose()
    {
        _threads.ForEach(t => t.Dispose());
        _over.Dispose();
        _silentAllowed.Dispose();
    }

    private IEnumerable<RelayChannel> Channels => State.Channels.Where(c => c.Init is not null);

    private void Strike(RelayFault fault, RelayChannel channel)
    {
        State.Strike(fault);
        switch (fault.Kind)
        {
            case RelayFaultKind.Break:
                throw new RelayException(RelayError.BrokenToOrder, $"The relay broke the migration to order: {fault}.");
            case RelayFaultKind.BreakChannel:
                RelayConnection? connection = null;
                State.Change(() => connection = _connections.Find(c => c.Channel == channel));
                connection!.Break();
                break;
            case RelayFaultKind.Blackhole:
                Flow.Close();
                break;
            case RelayFaultKind.Hold:
                Flow.Hold(Cancelled);
                break;
            case RelayFaultKind.Delay:
                Cancelled.WaitHandle.WaitOne(fault.Time);
                Cancelled.ThrowIfCancellationRequested();
                break;
        }
    }

    private void Accept(FdStream accepted)
    {
        if (_connections.Count(c => !c.HasEnded) >= MostConnections)
        {
            State.Warn("A connection was turned away: there are too many.");
            accepted.Dispose();
            return;
        }

        var connection = new RelayConnection(this, accepted, _relay.NextNumber(), isFirst: _connections.Count == 0);
        State.Change(() => _connections.Add(connection));
        _threads.Add(SideThread.Start("relay connection", Scope, () => Serve(connection)));
    }

    private void Serve(RelayConnection connection)
    {
        try
        {
            connection.Run();
        }
        catch (Exception e)
        {
            // Before the connection closes: what the peers do about that must not be taken for the first failure.
            Scope.Fail(e);
        }
        finally
        {
            connection.Dispose();
            State.Change(() => connection.HasEnded = true);
            EndIfOver();
        }
    }

    private bool HasSyncs(long count)
    {
        if (!Channels.Any() || _connections.Exists(c => c.HasSpoken && !c.IsKnown))
        {
            return false;
        }

        var late = Channels.Where(c => c.Syncs < count).ToList();
        return late.Find(c => c.HasEnded) is not { } ended ? late.Count == 0
            : throw new RelayException(RelayError.SourceEnded,
                $"The source closed {ended.Name} at byte {ended.Bytes:N0}, after {ended.Syncs:N0} SYNC packets; the main stream has {count:N0}.")
            { Section = ended.Name, ByteOffset = ended.Bytes };
    }

    // The number of channels is not in the stream; a gap in their numbers is one that did not come.
    private MultifdException? FindMissingChannel()
    {
        int[] ids = [.. Channels.Select(c => (int)c.Init!.Value.Id)];
        int[] missing = [.. Enumerable.Range(0, ids.Length == 0 ? 0 : ids.Max() + 1).Except(ids)];
        return missing.Length == 0 ? null : new MultifdException(MultifdError.MissingChannel,
            $"Nothing has moved for {Options.Timeout.TotalSeconds:0.###} s, and of {ids.Max() + 1} channels {ids.Length} connected; missing: {string.Join(", ", missing)}.");
    }

    private MultifdException MissingSyncs(long count)
        => Channels.FirstOrDefault(c => c.Syncs < count) is { } late
            ? new MultifdException(MultifdError.MissingSync,
                $"Nothing has moved for {Options.Timeout.TotalSeconds:0.###} s: {late.Name} has had {late.Syncs:N0} SYNC packets at byte {late.Bytes:N0}, the main stream has {count:N0}.")
            { Section = late.Name, ByteOffset = late.Bytes }
            : new MultifdException(MultifdError.MissingChannel,
                $"Nothing has moved for {Options.Timeout.TotalSeconds:0.###} s: the main stream flushes its channels, and none has connected.");

    // A guest that was started at the target continues there over new connections, so that what is left of the old ones is of no use.
    private void EndIfOver()
    {
        bool over = false;
        State.Change(() => over = _connections.Exists(c => c.IsMain && c.HasEnded)
            && (State.IsInPostcopy || !_connections.Exists(c => c.IsKnown && !c.HasEnded)));
        if (over)
        {
            _over.Cancel();
            Scope.Cancel();
        }
    }
}
