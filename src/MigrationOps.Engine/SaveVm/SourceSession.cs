using System.Diagnostics;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>One run of the source driver: its phases, in order.</summary>
internal sealed class SourceSession(EntryContext[] contexts, SaveVmSourceOptions options, ILogger logger) : IDisposable
{
    // How long the target has to tell why it closed a connection.
    private static readonly TimeSpan ReasonPatience = TimeSpan.FromSeconds(1);

    private readonly HashSet<SaveVmEntry> _sent = [];
    private readonly DescriptionWriter _description = new(options.PageSize);
    private readonly DateTimeOffset _startedAt = DateTimeOffset.UtcNow;
    private readonly long _start = Stopwatch.GetTimestamp();
    private ReturnPathListener? _returnPath;
    private HandlerCaller _caller = null!;
    private IoScope _scope = null!;
    private OutgoingChannels? _channels;
    private HandlerWatch _watch = null!;
    private OutgoingStream? _output;
    private PostcopySource? _postcopy;
    private MigrationDowntime? _downtime;
    private TimeSpan _duration;
    private long _sections;
    private long _bytesBefore;
    private int _rounds;
    private int _recoveries;

    internal bool DeviceStopped { get; private set; }

    internal TimeSpan Elapsed => Stopwatch.GetElapsedTime(_start);

    internal IReadOnlyList<EntryContext> Contexts => contexts;

    internal SaveVmSourceOptions Options { get; set; } = options;

    /// <summary>Where sections go: the main stream, or a package on its way.</summary>
    internal OutgoingStream Output { get => _output!; set => _output = value; }

    /// <summary>Postcopy's part; null in a migration that stays in pre-copy.</summary>
    internal PostcopySource? Postcopy => _postcopy;

    /// <summary>Whose the VM is, should the migration fail now.</summary>
    internal MigrationOwner Owner => _postcopy?.Owner ?? MigrationOwner.Source;

    internal HandlerCaller Caller => _caller;

    internal IoScope Scope => _scope;

    internal ReturnPathListener? ReturnPath => _returnPath;

    /// <summary>The bounds of the run that begins now.</summary>
    internal void Begin(OutgoingChannels? channels, IoScope bounds, CancellationToken cancellation)
    {
        (_channels, _scope) = (channels, bounds);
        foreach (var context in contexts)
        {
            context.Renew(cancellation);
        }
    }

    /// <summary>The whole migration, up to its end or its first failure.</summary>
    internal void Migrate(HandlerWatch watch, Func<IoScope, Stream> open)
    {
        Watch(watch);
        _postcopy = Options.Postcopy ? new PostcopySource(this, logger) : null;
        Prepare();
        Connect(open);
        Setup();
        var convergence = new Convergence(this, logger);
        bool late = convergence.Run();
        _downtime = late ? _postcopy!.Switch() : Complete();
        if (late)
        {
            _postcopy!.Finish(convergence);
        }

        _duration = Elapsed;
    }

    /// <summary>What a connection that was lost after the switch has left, over a new one.</summary>
    internal void Recover(HandlerWatch watch, Func<IoScope, Stream> open)
    {
        Watch(watch);
        var stream = open(_scope);
        _bytesBefore += Output.Position;
        _output = new OutgoingStream(stream, watch);
        _postcopy!.Answers.Renew();
        _returnPath = new ReturnPathListener(stream, _postcopy.Answers);
        _postcopy.Resume();
        _recoveries++;
        _postcopy.Finish(new Convergence(this, logger));
        _duration = Elapsed;
    }

    /// <summary>A round has ended.</summary>
    internal int CountRound() => ++_rounds;

    /// <summary>Asks the device's question if it has one; a device that does not say is active.</summary>
    internal bool IsActive(EntryContext context)
        => !context.Entry.Has(SaveVmHandler.IsActive)
            || _caller.Call(context.Entry, SaveVmHandler.IsActive, () => context.Entry.Handlers.IsActive(context));

    /// <summary>Writes one section around a handler's call.</summary>
    /// <returns>What the handler gave, and how long the body became.</returns>
    internal (T Result, long Length) Section<T>(
        SectionKind type, EntryContext context, SaveVmHandler handler, Func<SaveVmSaveStream, T> body)
    {
        var entry = context.Entry;
        string name = HandlerCaller.Name(entry);
        SaveVmLog.Section(logger, type, entry.SectionId, entry.IdStr, Output.Position);
        Output.Section = name;
        ElementWriter.Section(Output, type, entry);
        var stream = new SectionSaveStream(Output, name);
        T result;
        try
        {
            result = _caller.Call(entry, handler, () => body(stream));
        }
        finally
        {
            stream.Revoke();
        }

        long length = stream.BodyLength;
        ElementWriter.Footer(Output, entry.SectionId);
        Output.Section = null;
        _sections++;
        _sent.Add(entry);
        return (result, length);
    }

    /// <summary>The failure that tells most: when the connection broke because the target failed, the target's own word.</summary>
    internal Exception? Reason(Exception? failure)
    {
        if (failure is SaveVmException { Reason: SaveVmError.ConnectionLost } && _returnPath is { } listener
            && listener.Ended.WaitOne(ReasonPatience) && listener.Failure is SaveVmException { Reason: SaveVmError.TargetFailed } told)
        {
            return told;
        }

        return failure;
    }

    /// <summary>Looks once more at what the target said before the connection is given up.</summary>
    internal void Judge(Exception failure)
    {
        if (_returnPath is { } listener)
        {
            _postcopy?.Judge(failure, listener.Ended, ReasonPatience);
        }
    }

    /// <summary>Ends the return path of this connection, whose waits have been cancelled.</summary>
    internal void Hangup()
    {
        _returnPath?.Dispose();
        _returnPath = null;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _postcopy?.Dispose();
        _description.Dispose();
    }

    /// <summary>Fails if the target has failed, which it may at any moment.</summary>
    internal void CheckReturnPath()
    {
        _scope.CancellationToken.ThrowIfCancellationRequested();
        if (_returnPath is { } listener && listener.Ended.WaitOne(0))
        {
            throw listener.Failure ?? new SaveVmException(SaveVmError.InvalidReturnPath,
                $"The target said that it has finished, while the source was at byte {Output.Position:N0} of the stream.")
            { Section = "return path", ByteOffset = Output.Position };
        }
    }

    internal MigrationStreamTransfer Result(List<string> warnings) => new()
    {
        Direction = MigrationStreamDirection.Send,
        Uri = Options.Uri,
        MachineType = Options.MachineType ?? "",
        Bytes = _bytesBefore + Output.Position,
        MultifdChannels = _channels?.Count ?? 0,
        ChannelPackets = _channels?.Packets ?? 0,
        ChannelBytes = _channels?.Bytes ?? 0,
        Sections = _sections,
        Devices = [.. _sent.Select(e => e.ToString())],
        Rounds = _rounds,
        SwitchoverAcknowledged = Options.SwitchoverAck,
        Confirmed = Options.ReturnPath,
        StartedAt = _startedAt,
        Duration = _duration,
        Downtime = _downtime!,
        Postcopy = _postcopy is { Started: true },
        Recoveries = _recoveries,
        Owner = Options.ReturnPath ? MigrationOwner.Target : MigrationOwner.Unknown,
        Warnings = [.. warnings],
    };

    private void Prepare()
    {
        SaveVmLog.Phase(logger, "prepare");
        foreach (var context in contexts)
        {
            if (context.Entry.Has(SaveVmHandler.SavePrepare))
            {
                _caller.Call(context.Entry, SaveVmHandler.SavePrepare, () => context.Entry.Handlers.SavePrepare(context));
            }
        }
    }

    private void Connect(Func<IoScope, Stream> open)
    {
        var stream = open(_scope);
        _channels?.Connect(open);
        _output = new OutgoingStream(stream, _watch);
        ElementWriter.Header(_output);
        if (Options.MachineType is not null)
        {
            ElementWriter.Configuration(_output, Options.MachineType);
        }

        if (Options.ReturnPath)
        {
            ElementWriter.Command(_output, StreamCommandId.OpenReturnPath);
            ElementWriter.Command(_output, StreamCommandId.Ping, [0, 0, 0, 1]);
            _returnPath = new ReturnPathListener(stream, _postcopy?.Answers);
            _channels?.Broken = () => _returnPath.Ended.WaitOne(ReasonPatience);
        }

        _postcopy?.Advise();
    }

    private void Setup()
    {
        SaveVmLog.Phase(logger, "setup");
        foreach (var context in contexts)
        {
            if (context.Entry.Has(SaveVmHandler.SaveSetup) && IsActive(context))
            {
                Section(SectionKind.Start, context, SaveVmHandler.SaveSetup, stream =>
                {
                    context.Entry.Handlers.SaveSetup(stream, context);
                    return true;
                });
            }
        }

        Output.Flush();
        CheckReturnPath();
    }

    private MigrationDowntime Complete()
    {
        SaveVmLog.Phase(logger, "switchover");
        Output.EndTurns();
        var clock = new PartClock();
        StopDevice();
        var switchover = clock.Next();
        if (Options.SwitchoverStart)
        {
            ElementWriter.Command(Output, StreamCommandId.SwitchoverStart);
        }

        if (_channels is not null)
        {
            // Said before the packets overtake it.
            Output.Flush();
            Each(SaveVmHandler.SaveLiveCompletePrecopyThread, context => _channels.StartWorker(context, () => Output.Position));
        }

        Each(SaveVmHandler.SaveLiveCompletePrecopy, CompletePrecopy);
        _channels?.Join();
        var finalIteration = clock.Next();
        Each(SaveVmHandler.SaveState, SaveFull);
        var state = clock.Next();
        ElementWriter.Eof(Output);
        if (Options.Description)
        {
            Output.Write(_description.Element());
        }

        Output.Flush();
        var send = clock.Next();
        AwaitTarget();
        if (Options.ReturnPath)
        {
            _channels?.CheckRead();
        }

        SaveVmLog.Phase(logger, "completed");
        return new MigrationDowntime
        {
            Switchover = switchover,
            FinalIteration = finalIteration,
            State = state,
            Send = send,
            Complete = clock.Next(),
        };
    }

    internal void StopDevice()
    {
        // From here on the device may stand still, also if stopping it fails half-way.
        DeviceStopped = true;
        _caller.Device("stopped", Options.StopDevice);
    }

    internal void CompletePrecopy(EntryContext context) => Section(SectionKind.End, context, SaveVmHandler.SaveLiveCompletePrecopy, stream =>
    {
        context.Entry.Handlers.SaveLiveCompletePrecopy(stream, context);
        return true;
    });

    internal void SaveFull(EntryContext context)
    {
        var (_, length) = Section(SectionKind.Full, context, SaveVmHandler.SaveState, stream =>
        {
            context.Entry.Handlers.SaveState(stream, context);
            return true;
        });
        _description.Add(context.Entry, length);
    }

    internal void Each(SaveVmHandler handler, Action<EntryContext> complete)
    {
        foreach (var context in contexts)
        {
            if (context.Entry.Has(handler) && IsActive(context))
            {
                complete(context);
            }
        }
    }

    /// <summary>Waits for the target's word on how it ended.</summary>
    internal void AwaitTarget()
    {
        if (_returnPath is { } listener)
        {
            try
            {
                Await(listener.Ended, $"whether it loaded the {Output.Position:N0} bytes of the stream");
            }
            catch (OperationCanceledException) when (listener.HasFinished)
            {
                // The target's word counts more than a cancellation: its device may run already.
            }

            if (listener.Failure is { } failure)
            {
                throw failure;
            }
        }
    }

    /// <summary>Waits for something that the target says; its failure and the deadline end it.</summary>
    internal void Await(WaitHandle said, string what)
    {
        var listener = _returnPath!;
        _watch.BeginWait();
        var cancelled = _scope.CancellationToken.WaitHandle;
        int which = WaitHandle.WaitAny(said == listener.Ended ? [said, cancelled] : [said, cancelled, listener.Ended], _scope.Timeout);
        _watch.EndWait();
        _scope.CancellationToken.ThrowIfCancellationRequested();
        switch (which)
        {
            case 0:
                return;
            case 2:
                throw listener.Failure ?? new SaveVmException(SaveVmError.InvalidReturnPath,
                    $"The target said that it has finished; it was asked {what}.")
                { Section = "return path", ByteOffset = Output.Position };
            default:
                throw new SaveVmException(SaveVmError.PeerSilent, $"The target did not say within {_scope.Timeout.TotalSeconds:0.###} s {what}.")
                { ByteOffset = Output.Position, Section = "return path" };
        }
    }

    private void Watch(HandlerWatch watch)
    {
        _watch = watch;
        _caller = new HandlerCaller(watch, () => _output?.Position ?? 0, () => _output?.Failure, _scope);
    }
}

/// <summary>Cuts a stretch of time into its parts.</summary>
internal sealed class PartClock
{
    private long _mark = Stopwatch.GetTimestamp();

    internal TimeSpan Next()
    {
        long now = Stopwatch.GetTimestamp();
        var part = Stopwatch.GetElapsedTime(_mark, now);
        _mark = now;
        return part;
    }
}
