using MigrationOps.Engine.Qemu;

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
/// <param name="link">The connection.</param>
/// <param name="contexts">The devices.</param>
/// <param name="options">How it is driven.</param>
/// <param name="progress">How far postcopy has come, over all connections.</param>
/// <param name="device">The device here.</param>
internal sealed class PostcopySource(
    SourceLink link, IReadOnlyList<EntryContext> contexts, SaveVmSourceOptions options, PostcopyProgress progress, SourceDevice device)
{
    private readonly OutgoingStream _output = link.Output;
    private readonly HandlerCaller _caller = link.Run.Caller;
    private readonly PostcopyAnswers _answers = progress.Answers;

    /// <summary>True if the device can be finished on the running target.</summary>
    internal bool FinishesInPostcopy(EntryContext context) => context.Entry.Has(SaveVmHandler.HasPostcopy)
        && _caller.Call(context.Entry, SaveVmHandler.HasPostcopy, () => context.Entry.Handlers.HasPostcopy(context));

    /// <summary>Announces postcopy, so that a target that cannot do it fails early.</summary>
    internal void SendAdvise()
    {
        bool ram = contexts.Any(c => c.Entry.IdStr == StreamFormat.Ram);
        ElementWriter.Command(_output, StreamCommandId.PostcopyAdvise,
            PostcopyCodec.Advice(options.RamPageSizes ?? (ram ? options.PageSize : null), options.PageSize));
    }

    /// <summary>Stops the device here and hands it over.</summary>
    /// <param name="channels">The multifd channels, or null. As with QEMU nothing goes over them once the target runs, so they end here.</param>
    internal MigrationDowntime Switch(OutgoingChannels? channels)
    {
        link.Run.LogPhase("switch to postcopy");
        _output.EndTurns();
        var clock = new PartClock();
        device.Stop(_caller, options.StopDevice);
        var switchover = clock.Next();
        if (options.SwitchoverStart)
        {
            ElementWriter.Command(_output, StreamCommandId.SwitchoverStart);
        }

        progress.PostcopyDevices.AddRange(contexts.Where(c => _caller.IsActive(c) && FinishesInPostcopy(c)));
        if (channels is not null)
        {
            // Said before the packets overtake it.
            _output.Flush();
            EachInTime(SaveVmHandler.SaveLiveCompletePrecopyThread, context => channels.StartWorker(context, () => _output.Position));
        }

        EachInTime(SaveVmHandler.SaveLiveCompletePrecopy, link.Sections.CompletePrecopy);
        channels?.Join(link.ReturnPath);
        DiscardStale();
        ElementWriter.Ping(_output, PostcopyCodec.BeforePackage);
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
        _output.EndTurns();
        link.Sections.Each(SaveVmHandler.SaveLiveCompletePostcopy, context =>
        {
            if (FinishesInPostcopy(context))
            {
                link.Sections.CompletePostcopy(context);
            }
        });
        ElementWriter.Eof(_output);
        _output.Flush();
        link.ReturnPath.AwaitEnd();
        link.Run.LogPhase("postcopy completed");
    }

    /// <summary>Continues over a new connection: finds out what was lost, and learns from the target that it listens again.</summary>
    internal void Resume()
    {
        link.Run.LogPhase("resume postcopy");
        foreach (var context in contexts)
        {
            if (context.Entry.Has(SaveVmHandler.ResumePrepare) && _caller.IsActive(context))
            {
                context.ReceivedPagesAsked = AskReceivedPages;
                try
                {
                    _caller.Call(context.Entry, SaveVmHandler.ResumePrepare, () => context.Entry.Handlers.ResumePrepare(context));
                }
                finally
                {
                    context.ReceivedPagesAsked = null;
                }
            }
        }

        ElementWriter.Command(_output, StreamCommandId.PostcopyResume);
        _output.Flush();
        link.ReturnPath.Await(_answers.Resumed, "whether it resumes");
        progress.MarkResumed();
    }

    // Those that must be complete before the target runs.
    private void EachInTime(SaveVmHandler handler, Action<EntryContext> complete) => link.Sections.Each(handler, context =>
    {
        if (!progress.PostcopyDevices.Contains(context))
        {
            complete(context);
        }
    });

    private void DiscardStale()
    {
        foreach (var context in progress.PostcopyDevices)
        {
            if (context.Entry.Handlers is not ISaveVmPages device)
            {
                continue;
            }

            var stale = _caller.Call(context.Entry, nameof(device.StalePages), () => device.StalePages(context).ToList());
            foreach (var block in stale.GroupBy(range => range.Block))
            {
                foreach (var ranges in block.Chunk(PostcopyCodec.RangesPerDiscard))
                {
                    ElementWriter.Command(_output, StreamCommandId.PostcopyRamDiscard, PostcopyCodec.Discard(block.Key, ranges));
                }
            }
        }
    }

    // The target must have read all of the state before it loads any, because loading may need pages from this connection.
    // So the state travels with its length, which is known only once it is all here.
    private ArraySegment<byte> Package()
    {
        var memory = new BoundedMemory(options.MaxPackage);
        const int Head = 5 + sizeof(uint);
        var package = link.Sections.Into(_output.CreatePackageStream(memory, _output.Position + Head));
        ElementWriter.Command(package.Output, StreamCommandId.PostcopyListen);
        package.Each(SaveVmHandler.SaveState, package.SaveFull);
        ElementWriter.Ping(package.Output, PostcopyCodec.PackageLoaded);
        ElementWriter.Command(package.Output, StreamCommandId.PostcopyRun);
        package.Output.Flush();
        return new ArraySegment<byte>(memory.GetBuffer(), 0, (int)memory.Length);
    }

    // Everything but RUN goes first: as long as RUN has not left, a failure leaves the VM here. So the target's answer that all is well
    // so far is awaited, which costs one round trip and spares the operator the doubt about a target that failed before.
    private void HandOver(ArraySegment<byte> package)
    {
        ElementWriter.Packaged(_output, (uint)package.Count);
        _output.Write(package[..^PostcopyCodec.RunLength]);
        _output.Flush();
        link.ReturnPath.Await(_answers.Ready, "whether it has loaded what came before the switch");
        _answers.MayRequest = true;
        progress.MarkStarted();
        link.Run.LogPhase("the target may run");
        _output.Write(package[^PostcopyCodec.RunLength..]);
        ElementWriter.Ping(_output, 4);
        _output.Flush();
    }

    private byte[] AskReceivedPages(string block)
    {
        ElementWriter.Command(_output, StreamCommandId.ReceivedBitmap, PostcopyCodec.Name(block));
        _output.Flush();
        link.ReturnPath.Await(_answers.BitmapCame, $"which pages of '{block}' it has");
        var (came, bits) = _answers.Bitmap;
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
                    $"The postcopy package exceeds its limit of {limit:N0} bytes.");
            }

            base.Write(buffer);
        }
    }
}
