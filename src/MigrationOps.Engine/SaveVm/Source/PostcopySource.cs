using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Postcopy on the source: from the announcement to the end, over one connection or several.
/// <code>
/// ADVISE → … rounds … → stop the device → END of who cannot do postcopy → DISCARD
///   → PING 2 → PACKAGED( LISTEN, FULL sections, PING 3, ··· PONG 2 ··· RUN ) ══ the VM is no longer ours ══ PING 4
///   → iterate → END of the others → EOF → SHUT
///   after a pause:  resume_prepare ( RECV_BITMAP ) → RESUME → RESUME_ACK → iterate …
/// </code>
/// The target may run from the moment at which RUN may have left. It has said so once its PONG 3 is here; if it
/// says before that it failed, it never ran.
/// </summary>
internal sealed class PostcopySource(SourceSession session, ILogger logger) : IDisposable
{
    private readonly List<EntryContext> _late = [];
    private volatile bool _started;
    private bool _targetFailed;

    /// <summary>What the target says.</summary>
    internal PostcopyAnswers Answers { get; } = new(session.Contexts);

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
    internal string? Obstacle => _late.Find(c => !c.Entry.Has(SaveVmHandler.ResumePrepare)) is { } late
        ? $"{HandlerCaller.Name(late.Entry)} does not offer {SaveVmHandler.ResumePrepare}"
        : null;

    /// <summary>True if the device can be finished on the running target.</summary>
    internal bool IsLate(EntryContext context) => context.Entry.Has(SaveVmHandler.HasPostcopy)
        && session.Caller.Call(context.Entry, SaveVmHandler.HasPostcopy, () => context.Entry.Handlers.HasPostcopy(context));

    /// <summary>Announces postcopy, so that a target that cannot do it fails early.</summary>
    internal void Advise()
    {
        var options = session.Options;
        bool ram = session.Contexts.Any(c => c.Entry.IdStr == StreamFormat.Ram);
        ElementWriter.Command(session.Output, StreamCommandId.PostcopyAdvise,
            PostcopyCodec.Advice(options.RamPageSizes ?? (ram ? options.PageSize : null), options.PageSize));
    }

    /// <summary>Stops the device here and hands it over.</summary>
    /// <param name="channels">The multifd channels, or null. As with QEMU nothing goes over them once the target runs, so they end here.</param>
    internal MigrationDowntime Switch(OutgoingChannels? channels)
    {
        SaveVmLog.Phase(logger, "switch to postcopy");
        var output = session.Output;
        output.EndTurns();
        var clock = new PartClock();
        session.StopDevice();
        var switchover = clock.Next();
        if (session.Options.SwitchoverStart)
        {
            ElementWriter.Command(output, StreamCommandId.SwitchoverStart);
        }

        _late.AddRange(session.Contexts.Where(c => session.Sections.IsActive(c) && IsLate(c)));
        if (channels is not null)
        {
            // Said before the packets overtake it.
            output.Flush();
            EachInTime(SaveVmHandler.SaveLiveCompletePrecopyThread, context => channels.StartWorker(context, () => output.Position));
        }

        EachInTime(SaveVmHandler.SaveLiveCompletePrecopy, session.Sections.CompletePrecopy);
        channels?.Join(session.ReturnPath);
        DiscardStale();
        ElementWriter.Ping(output, PostcopyCodec.BeforePackage);
        var finalIteration = clock.Next();
        var package = Package();
        var state = clock.Next();
        HandOver(package);
        return new MigrationDowntime
        {
            Switchover = switchover,
            FinalIteration = finalIteration,
            State = state,
            Send = clock.Next(),
            Complete = TimeSpan.Zero,
        };
    }

    /// <summary>Sends the rest while the target runs.</summary>
    internal void Finish(Convergence rounds)
    {
        rounds.RunPostcopy();
        session.Output.EndTurns();
        session.Sections.Each(SaveVmHandler.SaveLiveCompletePostcopy, context =>
        {
            if (IsLate(context))
            {
                session.Sections.CompletePostcopy(context);
            }
        });
        ElementWriter.Eof(session.Output);
        session.Output.Flush();
        session.ReturnPath.AwaitEnd();
        SaveVmLog.Phase(logger, "postcopy completed");
    }

    /// <summary>Goes on over a new connection: finds out what was lost, and gets the target's word that it listens again.</summary>
    internal void Resume()
    {
        SaveVmLog.Phase(logger, "resume postcopy");
        foreach (var context in session.Contexts)
        {
            if (context.Entry.Has(SaveVmHandler.ResumePrepare) && session.Sections.IsActive(context))
            {
                context.ReceivedPagesAsked = AskReceivedPages;
                try
                {
                    session.Caller.Call(context.Entry, SaveVmHandler.ResumePrepare, () => context.Entry.Handlers.ResumePrepare(context));
                }
                finally
                {
                    context.ReceivedPagesAsked = null;
                }
            }
        }

        ElementWriter.Command(session.Output, StreamCommandId.PostcopyResume);
        session.Output.Flush();
        session.ReturnPath.Await(Answers.Resumed, "whether it goes on");
        _targetFailed = false;
    }

    /// <summary>Learns from a failure whose the VM is: the target's word may still be on its way.</summary>
    internal void Judge(Exception failure, WaitHandle ended, TimeSpan patience)
    {
        if (_started)
        {
            WaitHandle.WaitAny([Answers.PackageLoaded, ended], patience);
            _targetFailed = failure is SaveVmException { Reason: SaveVmError.TargetFailed };
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Answers.Dispose();

    // Those that must be complete before the target runs.
    private void EachInTime(SaveVmHandler handler, Action<EntryContext> complete) => session.Sections.Each(handler, context =>
    {
        if (!_late.Contains(context))
        {
            complete(context);
        }
    });

    private void DiscardStale()
    {
        foreach (var context in _late)
        {
            if (context.Entry.Handlers is not ISaveVmPages device)
            {
                continue;
            }

            var stale = session.Caller.Call(context.Entry, nameof(device.StalePages), () => device.StalePages(context).ToList());
            foreach (var block in stale.GroupBy(range => range.Block))
            {
                foreach (var ranges in block.Chunk(PostcopyCodec.RangesPerDiscard))
                {
                    ElementWriter.Command(session.Output, StreamCommandId.PostcopyRamDiscard, PostcopyCodec.Discard(block.Key, ranges));
                }
            }
        }
    }

    // The target must have read all of the state before it loads any, because loading may need pages from this connection.
    // So the state travels with its length, which is known only once it is all here.
    private ArraySegment<byte> Package()
    {
        var main = session.Output;
        var memory = new BoundedMemory(session.Options.MaxPackage);
        const int Head = 5 + sizeof(uint);
        session.Output = main.Detour(memory, main.Position + Head);
        try
        {
            ElementWriter.Command(session.Output, StreamCommandId.PostcopyListen);
            session.Sections.Each(SaveVmHandler.SaveState, session.Sections.SaveFull);
            ElementWriter.Ping(session.Output, PostcopyCodec.PackageLoaded);
            ElementWriter.Command(session.Output, StreamCommandId.PostcopyRun);
            session.Output.Flush();
        }
        finally
        {
            session.Output = main;
        }

        return new ArraySegment<byte>(memory.GetBuffer(), 0, (int)memory.Length);
    }

    // Everything but RUN goes first: as long as RUN has not left, a failure leaves the VM here. So the target's word that all is well
    // so far is awaited, which costs one round trip and spares the operator the doubt about a target that failed before.
    private void HandOver(ArraySegment<byte> package)
    {
        var output = session.Output;
        ElementWriter.Packaged(output, (uint)package.Count);
        output.Write(package[..^PostcopyCodec.RunLength]);
        output.Flush();
        session.ReturnPath.Await(Answers.Ready, "whether it has loaded what came before the switch");
        Answers.MayRequest = true;
        _started = true;
        SaveVmLog.Phase(logger, "the target may run");
        output.Write(package[^PostcopyCodec.RunLength..]);
        ElementWriter.Ping(output, 4);
        output.Flush();
    }

    private byte[] AskReceivedPages(string block)
    {
        ElementWriter.Command(session.Output, StreamCommandId.ReceivedBitmap, PostcopyCodec.Name(block));
        session.Output.Flush();
        session.ReturnPath.Await(Answers.BitmapCame, $"which pages of '{block}' it has");
        var (came, bits) = Answers.Bitmap;
        return came == block ? bits
            : throw new StreamException(StreamError.InvalidReturnPath, $"The target was asked about '{block}' and sent the bitmap of '{came}'.")
            { Section = "return path" };
    }

    /// <summary>Collects a package, up to its limit.</summary>
    private sealed class BoundedMemory(long limit) : MemoryStream
    {
        public override void Write(ReadOnlySpan<byte> buffer)
        {
            if (Length + buffer.Length > limit)
            {
                throw new StreamException(StreamError.InvalidPackage,
                    $"The device state that must travel at once at the switch to postcopy is longer than the {limit:N0} bytes that are collected.");
            }

            base.Write(buffer);
        }
    }
}
