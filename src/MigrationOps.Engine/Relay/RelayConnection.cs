using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Relay;

/// <summary>One connection of the source and its counterpart at the target, a thread for each direction.</summary>
internal sealed class RelayConnection(RelayRound round, FdStream accepted, int number, bool isFirst) : IDisposable
{
    private Stream? _source;
    private Stream? _target;
    private FdStream? _targetSocket;
    private SideThread? _back;
    private RelayPump? _forwardPump;
    private bool _isOpaque;
    private volatile bool _broken;

    private RelayState State => round.State;

    /// <summary>What the status shows of it; null until it is known what it is.</summary>
    internal RelayChannel? Channel { get; private set; }

    /// <summary>True if it has said something.</summary>
    internal bool HasSpoken { get; private set; }

    /// <summary>True once it is known to be one of the migration's.</summary>
    internal bool IsKnown => Channel is not null;

    /// <summary>True for the main connection.</summary>
    internal bool IsMain { get; private set; }

    internal bool HasEnded { get; set; }

    /// <summary>Carries it from its first byte to its end.</summary>
    internal void Run()
    {
        // A source that resumes has its main connection first, and may have nothing to say on it before the others stand.
        bool resumes = round.IsResumed && isFirst;
        bool isSilent = !resumes && !AwaitSpeech();
        if (isSilent && !State.MayUsePostcopy)
        {
            return;
        }

        if (Protect() is not { } source)
        {
            return;
        }

        _source = source;
        var forward = _forwardPump = new RelayPump(source, round.Flow, isLimited: true, Passed, round.Cancelled);
        if (isSilent)
        {
            // The target waits for the second channel of postcopy, on which the source may have nothing to say for a long time.
            Connect();
        }

        while (!resumes && forward.Waiting.Length < ChannelKinds.Length && forward.Fill())
        {
        }

        State.Change(() => HasSpoken |= !forward.Waiting.IsEmpty);
        if ((resumes && round.TryTakeMain() ? StartMain(forward, resumed: true) : Introduce(forward)) is { } pass)
        {
            if (_target is null)
            {
                Connect();
            }

            _back ??= StartBack();
            Carry(forward, pass);
        }
    }

    /// <summary>Closes it on both sides, to order.</summary>
    internal void Break()
    {
        _broken = true;
        Interrupt();
    }

    public void Dispose()
    {
        Interrupt();
        _back?.Join();
        _back?.Dispose();
        _forwardPump?.EndRecord();
        (_source ?? accepted).Dispose();
        _target?.Dispose();
    }

    private void Passed(int count)
    {
        Channel!.Pass(count);
        State.Moved(count);
    }

    // True once it says something; false if it has not, and may be one of the migration's all the same.
    private bool AwaitSpeech()
    {
        using var patience = round.Scope.Until(round.SilentAllowed);
        try
        {
            patience.TryWait(accepted.Handle, Native.PollEvents.Readable, new Deadline(Timeout.InfiniteTimeSpan));
            return HasSpoken = accepted.HasBytesUntil(new Deadline(TimeSpan.Zero));
        }
        catch (OperationCanceledException) when (!round.Cancelled.IsCancellationRequested)
        {
            return false;
        }
    }

    // Whoever does not speak TLS where it is expected is turned away; it must not end a migration that others do.
    private Stream? Protect()
    {
        try
        {
            return round.Protect(accepted);
        }
        catch (WireException e) when (e.Reason == WireError.TlsFailed)
        {
            State.Warn($"A connection was turned away. {e.Message}");
            return null;
        }
    }

    // What the connection is, by its first bytes, and how its bytes are passed on; null if it is none of the migration's.
    private Func<bool>? Introduce(RelayPump forward)
    {
        var first = forward.Waiting;
        switch (ChannelKinds.Of(first))
        {
            case ChannelKind.Main when !round.IsResumed && round.TryTakeMain():
                return StartMain(forward, resumed: false);
            case ChannelKind.Multifd:
                return StartChannel(forward);
            case ChannelKind.Tls:
                return StartOpaque(forward);
            case ChannelKind.Other when State.MayUsePostcopy && round.HasMain:
                Enter(new RelayChannel("preempt", 1000));
                return () => RunPreempt(forward);
            case ChannelKind.Main:
                State.Warn("A second migration was turned away: a relay carries one.");
                return null;
            case ChannelKind.Other when round.HasMain && first.Length >= ChannelKinds.Length:
                // The target would take it for a channel of the migration, and fail.
                var reader = WireReader.BigEndian(first, 0, $"connection {number}");
                ChannelInit.TryReadKind(ref reader, out _);
                return null;
            default:
                if (!first.IsEmpty)
                {
                    State.Warn($"A connection was turned away: it starts with 0x{Convert.ToHexStringLower(first[..Math.Min(first.Length, ChannelKinds.Length)])}, which is no migration.");
                }

                return null;
        }
    }

    private Func<bool> StartMain(RelayPump forward, bool resumed)
    {
        IsMain = true;
        RelayChannel channel;
        if (resumed)
        {
            channel = State.Channels.First(c => c.Order == 0);
            round.Walker = round.Walker!.Resume();
            State.Change(() => Channel = channel);
        }
        else
        {
            Enter(channel = new RelayChannel("main", 0));
            round.Watch = new MainWatch(round, channel);
            round.Walker = new StreamWalker(round.Watch);
            State.Enter(RelayPhase.Setup);
            forward.RecordTo(round.OpenRecord(null));
            round.ArmStart(forward, channel, null);
        }

        (round.Watch!.Round, round.Watch.Pump) = (round, forward);
        return () => RunMain(forward, round.Walker, round.Watch);
    }

    private bool RunMain(RelayPump forward, StreamWalker walker, MainWatch watch)
    {
        try
        {
            bool took = forward.Run(walker);
            if (took)
            {
                watch.EndWithoutDescription();
            }

            return took;
        }
        catch (StreamException e) when (forward is { LostSender: true, IsChecking: true })
        {
            return State.IsInPostcopy || _broken ? true
                : throw new RelayException(RelayError.SourceEnded, $"The source closed the main connection before its end. {e.Message}", e) { Section = e.Section, ByteOffset = e.ByteOffset };
        }
        catch (StreamException e) when (watch.IsUncertain && forward.IsChecking)
        {
            // The place of a device's end was found by what follows it, which the guest may have in its own data. The target knows better.
            State.Warn($"The main stream is passed on unread from here on. {e.Message}");
            return forward.Run(null);
        }
    }

    private Func<bool>? StartChannel(RelayPump forward)
    {
        while (forward.Waiting.Length < ChannelInit.Size && forward.Fill())
        {
        }

        var reader = WireReader.BigEndian(forward.Waiting, 0, "a new channel");
        if (!ChannelInit.TryRead(ref reader, out var init))
        {
            State.Warn($"A connection was turned away: it ended after {forward.Waiting.Length} bytes of a channel's first message.");
            return null;
        }

        var channel = new RelayChannel($"channel {init.Id}", 1 + init.Id) { Init = init };
        round.CheckInit(init, channel.Name);
        Enter(channel);
        forward.RecordTo(round.OpenRecord(init.Id));
        round.ArmStart(forward, channel, init.Id);
        return () =>
        {
            // The size of its packets is that of the target's pages, which the main stream tells.
            State.WaitForStart(round.Cancelled);
            return RunChannel(forward, new MultifdChannelWalker(new ChannelWatch(round, channel, forward), State.PageSize, channel.Name));
        };
    }

    private bool RunChannel(RelayPump forward, MultifdChannelWalker walker)
    {
        try
        {
            return forward.Run(walker);
        }
        catch (StreamException e) when (forward is { LostSender: true, IsChecking: true })
        {
            return _broken || State.IsAcknowledged ? true
                : throw new RelayException(RelayError.SourceEnded, $"The source closed {Channel!.Name} before its end. {e.Message}", e) { Section = Channel!.Name, ByteOffset = e.ByteOffset };
        }
    }

    private bool RunPreempt(RelayPump forward)
    {
        // Its pages come when the guest runs at the target, long after the blocks were listed.
        State.WaitForBlocks(round.Cancelled);
        try
        {
            return forward.Run(round.Walker!.FindPreemptWalker());
        }
        catch (StreamException) when (forward is { LostSender: true, IsChecking: true })
        {
            // Postcopy pauses when it breaks.
            return true;
        }
    }

    private Func<bool> StartOpaque(RelayPump forward)
    {
        _isOpaque = true;
        IsMain = round.TryTakeMain();
        if (IsMain)
        {
            State.StartEncrypted();
        }

        Enter(new RelayChannel($"connection {number}", IsMain ? 0 : number));
        return () => forward.Run(null);
    }

    private void Enter(RelayChannel channel)
    {
        State.Change(() => Channel = channel);
        State.Add(channel);
    }

    private void Connect()
    {
        if (!IsMain)
        {
            round.WaitForMain();
        }

        _targetSocket = round.Connect();
        _target = _isOpaque ? _targetSocket : round.ProtectTarget(_targetSocket);
        _forwardPump!.To = _target;
        if (IsMain)
        {
            round.MainHasConnected();
        }
    }

    private SideThread StartBack()
    {
        var pump = new RelayPump(_target!, round.Flow, isLimited: false, count =>
        {
            Channel!.PassBack(count);
            State.Moved(count);
        }, round.Cancelled)
        { To = _source! };
        var walker = IsMain && !_isOpaque ? new ReturnPathWalker((message, offset) => Note(pump, message, offset)) : null;
        return SideThread.Start("relay return", round.Scope, () =>
        {
            bool took = pump.Run(walker);
            if (IsMain)
            {
                round.NoteEnd(took ? RelayError.TargetEnded : RelayError.SourceEnded);
            }

            if (took)
            {
                EndWriting(_source!);
            }
        });
    }

    private void Note(RelayPump pump, ReturnPathMessage message, long offset)
    {
        var (point, passed) = message.Type switch
        {
            ReturnPathMessageType.Shut => (RelayPoint.Shut, message.Value == 0 ? State.Acknowledge : null),
            ReturnPathMessageType.Pong => (RelayPoint.Pong, null),
            ReturnPathMessageType.SwitchoverAck => (RelayPoint.SwitchoverAck, State.CountSwitchoverAck),
            ReturnPathMessageType.ResumeAck => (RelayPoint.ResumeAck, State.CountResumeAck),
            _ => (RelayPoint.PageRequest, (Action?)null),
        };
        if (message.Type == ReturnPathMessageType.Shut)
        {
            State.Say(message.Value);
            if (message.Value == 0)
            {
                round.Watch!.EndWithoutDescription();
            }
        }

        round.Strike(point, pump, offset, offset + ReturnPathCodec.HeaderSize + message.Data.Length, Channel!, passed);
    }

    private void Carry(RelayPump forward, Func<bool> pass)
    {
        bool took = pass();
        if (IsMain)
        {
            round.NoteEnd(took ? RelayError.SourceEnded : RelayError.TargetEnded);
        }

        State.Change(() => Channel!.HasEnded = true);
        if (took)
        {
            EndWriting(_target!);
        }
        else
        {
            accepted.Interrupt();
        }

        // A target that has gone wrong may keep it open for ever.
        if (WaitHandle.WaitAny([_back!.Ended, round.Cancelled.WaitHandle], round.Options.Timeout) != 0)
        {
            Interrupt();
        }

        _back.Join();
    }

    private void Interrupt()
    {
        accepted.Interrupt();
        _targetSocket?.Interrupt();
    }

    private static void EndWriting(Stream stream)
    {
        try
        {
            if (stream is TlsStream tls)
            {
                tls.EndWriting();
            }
            else
            {
                ((FdStream)stream).EndWriting();
            }
        }
        catch (WireException e) when (e.Reason == WireError.Disconnected)
        {
            // It has gone already.
        }
    }
}
