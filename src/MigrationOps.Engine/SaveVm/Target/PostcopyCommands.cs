using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>Executes the commands of postcopy on the target, over one connection.</summary>
/// <param name="contexts">The devices.</param>
/// <param name="options">What is allowed here.</param>
/// <param name="state">Knows which command may come.</param>
/// <param name="package">Loads the package.</param>
/// <param name="returnPath">Takes the devices' requests for pages.</param>
/// <param name="joinThreads">Waits for what loads beside the main stream.</param>
/// <param name="log">Gets the phases.</param>
internal sealed class PostcopyCommands(
    IReadOnlyList<EntryContext> contexts, SaveVmTargetOptions options, PostcopyTarget state, PostcopyPackage package,
    TargetReturnPath returnPath, Action joinThreads, Action<string> log)
{
    /// <summary>Executes a command.</summary>
    internal void Execute(StreamCommand command, long offset, StreamLoader loader)
    {
        if (!loader.Input.IsPackage)
        {
            // The command comes after the package, whatever it is.
            package.Join();
        }

        switch (command.Id)
        {
            case StreamCommandId.PostcopyAdvise:
                Expect(command, offset, PostcopyState.None);
                Advise(command.Data, offset);
                state.Enter(PostcopyState.Advised);
                break;
            case StreamCommandId.PostcopyRamDiscard:
                Expect(command, offset, PostcopyState.Advised, PostcopyState.Discarding);
                Discard(command.Data, offset, loader);
                state.Enter(PostcopyState.Discarding);
                break;
            case StreamCommandId.Packaged:
                Expect(command, offset, PostcopyState.Advised, PostcopyState.Discarding, PostcopyState.Listening);
                package.Load(loader, command.Value, offset);
                break;
            case StreamCommandId.PostcopyListen:
                Expect(command, offset, PostcopyState.Advised, PostcopyState.Discarding);
                state.Enter(PostcopyState.Listening);
                Allow(returnPath.Request);
                package.Listen();
                break;
            case StreamCommandId.PostcopyRun:
                Expect(command, offset, PostcopyState.Listening);
                loader.EndPackage(offset, "POSTCOPY_RUN");
                joinThreads();
                state.Start(() => loader.Caller.Device("started", options.StartDevice));
                log("the device runs");
                break;
            case StreamCommandId.ReceivedBitmap:
                Expect(command, offset, PostcopyState.Recovering);
                Report(command.Data, offset, loader);
                break;
            case StreamCommandId.PostcopyResume:
                Expect(command, offset, PostcopyState.Recovering);
                state.Resume();
                loader.Answer(offset, path => path.Resumed());
                Allow(returnPath.Request);
                log("postcopy resumes");
                break;
            default:
                throw SaveVmException.At(SaveVmError.NotSupported, offset, $"The command {command.Id} needs a feature that this driver does not have");
        }
    }

    /// <summary>From now on the devices' requests for pages go nowhere, until the connection is back.</summary>
    internal static void Suspend(IReadOnlyList<EntryContext> contexts)
    {
        foreach (var context in contexts)
        {
            context.PagesWanted = _ => { };
        }
    }

    private void Expect(StreamCommand command, long offset, params ReadOnlySpan<PostcopyState> states)
    {
        if (!options.Postcopy)
        {
            throw SaveVmException.At(SaveVmError.NotSupported, offset, $"The source sends {command.Id}, and postcopy is not allowed here");
        }

        state.Expect(command, offset, states);
    }

    private void Advise(byte[] data, long offset)
    {
        var advice = PostcopyCodec.ParseAdvice(data);
        string? wrong = options.RamPageSizes is { } ours && (ulong)ours != advice?.RamPageSizes
                ? advice is { } theirs ? $"The source's memory has pages of 0x{theirs.RamPageSizes:x} bytes, expected 0x{ours:x}" : "The source announces postcopy without memory"
            : advice is { } given && options.PageBits is { } bits && given.PageSize != 1UL << bits
                ? $"The source's machine has pages of {given.PageSize:N0} bytes, expected {1L << bits:N0}"
            : null;
        if (wrong is not null)
        {
            throw SaveVmException.At(SaveVmError.ConfigurationMismatch, offset, wrong);
        }
    }

    private void Discard(byte[] data, long offset, StreamLoader loader)
    {
        var ranges = PostcopyCodec.ParseDiscard(data)
            ?? throw StreamException.At(StreamError.InvalidCommand, offset, $"{StreamCommandId.PostcopyRamDiscard} does not carry a block and its ranges");
        foreach (var range in ranges)
        {
            if (Ask(loader, nameof(ISaveVmPages.DiscardPages), (device, context) => device.DiscardPages(range, context) ? range.Block : null) is null)
            {
                throw NoSuchBlock(range.Block, offset);
            }
        }
    }

    private void Report(byte[] data, long offset, StreamLoader loader)
    {
        string block = PostcopyCodec.ParseName(data)
            ?? throw StreamException.At(StreamError.InvalidCommand, offset, $"{StreamCommandId.ReceivedBitmap} does not name a block");
        byte[] bitmap = Ask(loader, nameof(ISaveVmPages.ReceivedPages), (device, context) => device.ReceivedPages(block, context)) ?? throw NoSuchBlock(block, offset);
        loader.Answer(offset, path => path.Received(block, bitmap));
    }

    private T? Ask<T>(StreamLoader loader, string member, Func<ISaveVmPages, SaveVmContext, T?> question)
        where T : class
    {
        foreach (var context in contexts)
        {
            if (context.Entry.Handlers is ISaveVmPages device
                && loader.Caller.Call(context.Entry, member, () => question(device, context)) is { } answer)
            {
                return answer;
            }
        }

        return null;
    }

    private void Allow(Action<SaveVmPages> request)
    {
        foreach (var context in contexts)
        {
            context.PagesWanted = request;
        }
    }

    private static SaveVmException NoSuchBlock(string block, long offset)
        => SaveVmException.At(SaveVmError.UnknownSection, offset, $"The source names RAM block '{block}', which is not registered here");
}
