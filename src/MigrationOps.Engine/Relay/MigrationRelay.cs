using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Relay;

/// <summary>
/// Stands between the source and the target of one migration: takes the source's connections, makes the same ones to the target, and
/// passes on what it has checked. It works in the background until the migration has ended or it is disposed.
/// <code>
/// Listening → Setup → Copying → Switching → Delivered → Acknowledged
///                                   └→ Postcopy ⇄ PostcopyPaused ↗          any → Failed
/// </code>
/// What a real target would wait for in vain - a packet that is damaged or missing - ends both sides with the error that names it.
/// </summary>
internal sealed class MigrationRelay : IDisposable
{
    private readonly CancellationTokenSource _stop = new();
    private readonly TransferScope _scope;
    private readonly TlsFiles? _targetTls;
    private readonly ArchiveWriter? _archive;
    private readonly SideThread _thread;
    private readonly Lock _lock = new();
    private RelayRound? _round;
    private int _numbers;
    private bool _disposed;

    private MigrationRelay(RelayOptions options)
    {
        Options = options;
        Flow = new RelayFlow(options.BytesPerSecond);
        Faults = new RelayFaults(options.Faults);
        Target = options.Target;
        _scope = new TransferScope(Timeout.InfiniteTimeSpan, _stop.Token);
        try
        {
            options.TargetSecurity.Check(options.Target);
            _targetTls = options is { Target: Endpoint.Tcp, TargetSecurity.TlsDirectory: not null } ? TlsFiles.Load(options.TargetSecurity, isServer: false) : null;
            _archive = options.Archive is { } folder ? new ArchiveWriter(folder) : null;
            Listener = Transport.Listen(options.Listen, options.ListenSecurity, _scope);
        }
        catch
        {
            _archive?.Dispose();
            _targetTls?.Dispose();
            _scope.Dispose();
            _stop.Dispose();
            throw;
        }

        _thread = SideThread.Start("migration relay", Serve);
    }

    /// <summary>What it was started with.</summary>
    internal RelayOptions Options { get; }

    /// <summary>Where the source connects; with port 0 the port that the system chose.</summary>
    internal Endpoint Endpoint => Listener.Endpoint;

    /// <summary>Where the next connections go: a target that recovers in postcopy may listen elsewhere.</summary>
    internal Endpoint Target { get; set; }

    /// <summary>What is known at this moment.</summary>
    internal RelayStatus Status => State.Snapshot();

    internal Listener Listener { get; }

    internal RelayState State { get; } = new();

    internal RelayFaults Faults { get; }

    internal RelayFlow Flow { get; }

    /// <summary>Starts to listen; everything else happens in the background.</summary>
    /// <exception cref="WireException">The address cannot be listened on, or credentials are missing.</exception>
    /// <exception cref="MultifdException">The archive's folder is not empty.</exception>
    internal static MigrationRelay Start(RelayOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return new MigrationRelay(options);
    }

    /// <summary>Waits until a condition on the status holds.</summary>
    /// <returns>The status for which it held.</returns>
    internal RelayStatus WaitFor(Func<RelayStatus, bool> condition, CancellationToken cancelled = default)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancelled);
        return State.WaitFor(condition, either.Token);
    }

    /// <summary>Passes nothing on from now on, on any connection, and keeps everything open.</summary>
    internal void Blackhole() => Flow.Close();

    /// <summary>Passes on everything that is held or in a black hole.</summary>
    internal void Release() => Flow.Release();

    /// <summary>Closes every connection now, on both sides.</summary>
    internal void Break()
    {
        lock (_lock)
        {
            _round?.Scope.Fail(new RelayException(RelayError.BrokenToOrder, "The relay broke the migration to order."));
        }
    }

    /// <summary>Ends connections, removes the socket file and waits for the threads. An archive that is not whole is removed.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
        }

        _stop.Cancel();
        _thread.Join();
        _thread.Dispose();
        Listener.Dispose();
        _archive?.Dispose();
        _targetTls?.Dispose();
        _scope.Dispose();
        _stop.Dispose();
    }

    internal int NextNumber() => Interlocked.Increment(ref _numbers);

    internal FdStream Connect(TransferScope scope)
    {
        using var within = new TransferScope(Options.Timeout, scope.CancellationToken);
        var target = Target;
        return FdStream.Over(Transport.OpenSocket(target, Options.TargetSecurity, within), scope, target.ToString(), waitsInKernel: true);
    }

    internal Stream ProtectTarget(FdStream socket)
        => _targetTls is null ? socket : _targetTls.Authenticate(socket, Options.TargetSecurity.TlsHostName ?? ((Endpoint.Tcp)Target).Host, Options.Timeout);

    internal Stream? OpenRecord(int? channel) => channel is { } id ? _archive?.OpenChannel(id) : _archive?.OpenMain();

    private void Serve()
    {
        RelayRound? paused = null;
        while (true)
        {
            var round = new RelayRound(this, _scope.Nest(), paused);
            lock (_lock)
            {
                _round = round;
            }

            round.Run();
            lock (_lock)
            {
                _round = null;
            }

            var failure = round.Scope.Failure;
            round.Dispose();
            round.Scope.Dispose();
            if (!_stop.IsCancellationRequested && State.IsInPostcopy && !State.IsAcknowledged && failure is null or RelayException)
            {
                State.Enter(RelayPhase.PostcopyPaused);
                paused = round;
                continue;
            }

            End(failure, round);
            return;
        }
    }

    private void End(Exception? failure, RelayRound round)
    {
        if (failure is null && _stop.IsCancellationRequested && !State.IsAcknowledged && round.HasMain)
        {
            failure = new RelayException(RelayError.Stopped, "The relay was stopped while it carried a migration.");
        }

        if (State.TargetSaid is > 0 and var said)
        {
            failure = new RelayException(RelayError.TargetFailed, $"The target says that it failed (SHUT {said}).", failure);
        }

        if (failure is null && round.HasMain && !State.IsEncrypted && !State.IsAcknowledged)
        {
            failure = (State.IsDelivered, State.HasReturnPath) switch
            {
                (true, false) => null,
                (true, true) => new RelayException(RelayError.NotAcknowledged, "The whole stream was passed on, and the connection ended without the target's word."),
                _ => new RelayException(round.FirstToEnd ?? RelayError.SourceEnded,
                    $"The {(round.FirstToEnd == RelayError.TargetEnded ? "target" : "source")} closed the main connection after {State.Channels[0].Bytes:N0} bytes."),
            };
        }

        try
        {
            if (failure is null && State.IsDelivered && _archive is not null)
            {
                CommitArchive(_archive);
            }
        }
        catch (Exception e)
        {
            failure = e;
        }

        var phase = State.Phase;
        State.End(failure is not null ? RelayPhase.Failed : phase is RelayPhase.Delivered or RelayPhase.Acknowledged ? phase : RelayPhase.Ended, failure);
    }

    private void CommitArchive(ArchiveWriter archive)
    {
        if (State.IsInPostcopy)
        {
            State.Warn("No archive is kept: the migration switched to postcopy, and not all of its pages came over the main connection.");
            return;
        }

        var channels = State.Channels.Where(c => c.Init is not null).ToList();
        var summary = new MigrationSummary(State.Channels[0].Bytes, State.Machine, channels.FirstOrDefault()?.Init!.Value.Uuid ?? default, State.PageSize,
            State.Compression, [.. channels.Select(c => new ChannelSummary(c.Init!.Value.Id, c.Bytes, c.Elements, c.Syncs, c.NormalPages, c.ZeroPages, c.DevicePackets))], []);
        archive.Commit(summary, State.Devices.Describe(), Endpoint.ToString());
    }
}
