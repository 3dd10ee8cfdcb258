using System.Diagnostics;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>One run of the source driver: its phases, in order.</summary>
internal sealed class SourceSession(
    EntryContext[] contexts, SaveVmSourceOptions options, OutgoingChannels? channels, IoScope scope, ILogger logger) : IDisposable
{
    // How long the target has to tell why it closed a connection.
    private static readonly TimeSpan ReasonPatience = TimeSpan.FromSeconds(1);

    private readonly HashSet<SaveVmEntry> _sent = [];
    private readonly DescriptionWriter _description = new(options.PageSize);
    private readonly DateTimeOffset _startedAt = DateTimeOffset.UtcNow;
    private readonly long _start = Stopwatch.GetTimestamp();
    private ReturnPathListener? _returnPath;
    private HandlerCaller _caller = null!;
    private HandlerWatch _watch = null!;
    private OutgoingStream? _output;
    private MigrationDowntime? _downtime;
    private TimeSpan _duration;
    private long _sections;
    private int _rounds;

    internal bool DeviceStopped { get; private set; }

    internal TimeSpan Elapsed => Stopwatch.GetElapsedTime(_start);

    internal IReadOnlyList<EntryContext> Contexts => contexts;

    internal OutgoingStream Output => _output!;

    internal HandlerCaller Caller => _caller;

    internal IoScope Scope => scope;

    internal ReturnPathListener? ReturnPath => _returnPath;

    internal void Migrate(HandlerWatch watch, Func<IoScope, Stream> open)
    {
        _watch = watch;
        _caller = new HandlerCaller(watch, () => _output?.Position ?? 0, () => _output?.Failure, scope);
        Prepare();
        Connect(open);
        Setup();
        _rounds = new Convergence(this, options, logger).Run();
        _downtime = Complete();
        _duration = Elapsed;
    }

    /// <summary>Asks the device's question if it has one; a device that does not say is active.</summary>
    internal bool IsActive(EntryContext context)
        => !context.Entry.Has(SaveVmHandler.IsActive)
            || _caller.Call(context.Entry, SaveVmHandler.IsActive, () => context.Entry.Handlers.IsActive(context));

    /// <summary>Writes one section around a handler's call.</summary>
    /// <returns>What the handler gave, and how long the body became.</returns>
    internal (T Result, long Length) Section<T>(
        SaveVmSectionType type, EntryContext context, SaveVmHandler handler, Func<SaveVmSaveStream, T> body)
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

    /// <summary>Ends the return path, whose waits have been cancelled.</summary>
    public void Dispose()
    {
        _returnPath?.Dispose();
        _description.Dispose();
    }

    /// <summary>Fails if the target has failed, which it may at any moment.</summary>
    internal void CheckReturnPath()
    {
        scope.CancellationToken.ThrowIfCancellationRequested();
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
        Uri = options.Uri,
        MachineType = options.MachineType ?? "",
        Bytes = Output.Position,
        MultifdChannels = channels?.Count ?? 0,
        ChannelPackets = channels?.Packets ?? 0,
        ChannelBytes = channels?.Bytes ?? 0,
        Sections = _sections,
        Devices = [.. _sent.Select(e => e.ToString())],
        Rounds = _rounds,
        SwitchoverAcknowledged = options.SwitchoverAck,
        Confirmed = options.ReturnPath,
        StartedAt = _startedAt,
        Duration = _duration,
        Downtime = _downtime!,
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
        var stream = open(scope);
        channels?.Connect(open);
        _output = new OutgoingStream(stream, _watch);
        ElementWriter.Header(_output);
        if (options.MachineType is not null)
        {
            ElementWriter.Configuration(_output, options.MachineType);
        }

        if (options.ReturnPath)
        {
            ElementWriter.Command(_output, SaveVmCommand.OpenReturnPath);
            ElementWriter.Command(_output, SaveVmCommand.Ping, [0, 0, 0, 1]);
            _returnPath = new ReturnPathListener(stream);
            channels?.Broken = () => _returnPath.Ended.WaitOne(ReasonPatience);
        }
    }

    private void Setup()
    {
        SaveVmLog.Phase(logger, "setup");
        foreach (var context in contexts)
        {
            if (context.Entry.Has(SaveVmHandler.SaveSetup) && IsActive(context))
            {
                Section(SaveVmSectionType.Start, context, SaveVmHandler.SaveSetup, stream =>
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
        if (options.SwitchoverStart)
        {
            ElementWriter.Command(Output, SaveVmCommand.SwitchoverStart);
        }

        if (channels is not null)
        {
            // Said before the packets overtake it.
            Output.Flush();
            Each(SaveVmHandler.SaveLiveCompletePrecopyThread, context => channels.StartWorker(context, () => Output.Position));
        }

        Each(SaveVmHandler.SaveLiveCompletePrecopy, context => Section(
            SaveVmSectionType.End, context, SaveVmHandler.SaveLiveCompletePrecopy, stream =>
            {
                context.Entry.Handlers.SaveLiveCompletePrecopy(stream, context);
                return true;
            }));
        channels?.Join();
        var finalIteration = clock.Next();
        Each(SaveVmHandler.SaveState, context => SaveFull(context));
        var state = clock.Next();
        ElementWriter.Eof(Output);
        if (options.Description)
        {
            Output.Write(_description.Element());
        }

        Output.Flush();
        var send = clock.Next();
        AwaitTarget();
        if (options.ReturnPath)
        {
            channels?.CheckRead();
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

    private void StopDevice()
    {
        // From here on the device may stand still, also if stopping it fails half-way.
        DeviceStopped = true;
        if (options.StopDevice is not { } stop)
        {
            return;
        }

        _watch.Enter(() => new SaveVmException(SaveVmError.HandlerTimeout,
            $"The device did not stop within {scope.Timeout.TotalSeconds:0.###} s, at byte {Output.Position:N0} of the stream.")
        { ByteOffset = Output.Position });
        try
        {
            stop();
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            throw new SaveVmException(SaveVmError.HandlerFailed,
                $"The device could not be stopped, at byte {Output.Position:N0} of the stream: {e.Message}", e)
            { ByteOffset = Output.Position };
        }
        finally
        {
            _watch.Exit();
        }
    }

    private void SaveFull(EntryContext context)
    {
        var (_, length) = Section(SaveVmSectionType.Full, context, SaveVmHandler.SaveState, stream =>
        {
            context.Entry.Handlers.SaveState(stream, context);
            return true;
        });
        _description.Add(context.Entry, length);
    }

    private void Each(SaveVmHandler handler, Action<EntryContext> complete)
    {
        foreach (var context in contexts)
        {
            if (context.Entry.Has(handler) && IsActive(context))
            {
                complete(context);
            }
        }
    }

    private void AwaitTarget()
    {
        if (_returnPath is not { } listener)
        {
            return;
        }

        int which = WaitHandle.WaitAny([listener.Ended, scope.CancellationToken.WaitHandle], scope.Timeout);
        scope.CancellationToken.ThrowIfCancellationRequested();
        if (which != 0)
        {
            throw new SaveVmException(SaveVmError.PeerSilent,
                $"The target did not say within {scope.Timeout.TotalSeconds:0.###} s whether it loaded the {Output.Position:N0} bytes of the stream.")
            { ByteOffset = Output.Position, Section = "return path" };
        }

        if (listener.Failure is { } failure)
        {
            throw failure;
        }
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
