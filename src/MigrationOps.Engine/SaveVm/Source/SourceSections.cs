using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>Writes sections into a stream: the framing around each handler's call.</summary>
/// <param name="run">The run, whatever its stream is.</param>
/// <param name="output">Where the sections go: the main stream, or a package on its way.</param>
/// <param name="contexts">The devices.</param>
/// <param name="tally">Told what was written.</param>
internal sealed class SourceSections(MigrationRun run, OutgoingStream output, IReadOnlyList<EntryContext> contexts, SourceTally tally)
{
    private readonly HandlerCaller _caller = run.Over(output).Caller;

    /// <summary>Where the sections go.</summary>
    internal OutgoingStream Output => output;

    /// <summary>The same sections, into another stream.</summary>
    internal SourceSections Into(OutgoingStream other) => new(run, other, contexts, tally);

    /// <summary>Does something with every active device that offers a handler.</summary>
    internal void Each(SaveVmHandler handler, Action<EntryContext> action)
    {
        foreach (var context in contexts)
        {
            if (context.Entry.Has(handler) && _caller.IsActive(context))
            {
                action(context);
            }
        }
    }

    /// <summary>START: the device is set up.</summary>
    internal void Setup(EntryContext context) => Write(SectionKind.Start, context, SaveVmHandler.SaveSetup,
        stream => context.Entry.Handlers.SaveSetup(stream, context));

    /// <summary>PART: a piece of what is pending.</summary>
    /// <returns>Whether nothing is left for now, and how long the body became.</returns>
    internal (bool Done, long Length) Iterate(EntryContext context) => Write(SectionKind.Part, context, SaveVmHandler.SaveLiveIterate,
        stream => context.Entry.Handlers.SaveLiveIterate(stream, context));

    /// <summary>END: what remains of a device that has stopped.</summary>
    internal void CompletePrecopy(EntryContext context) => Write(SectionKind.End, context, SaveVmHandler.SaveLiveCompletePrecopy,
        stream => context.Entry.Handlers.SaveLiveCompletePrecopy(stream, context));

    /// <summary>END: what remains of a device that runs on the target.</summary>
    internal void CompletePostcopy(EntryContext context) => Write(SectionKind.End, context, SaveVmHandler.SaveLiveCompletePostcopy,
        stream => context.Entry.Handlers.SaveLiveCompletePostcopy(stream, context));

    /// <summary>FULL: a device that is saved at once.</summary>
    internal void SaveFull(EntryContext context)
        => tally.Describe(context.Entry, Write(SectionKind.Full, context, SaveVmHandler.SaveState,
            stream => context.Entry.Handlers.SaveState(stream, context)));

    private long Write(SectionKind kind, EntryContext context, SaveVmHandler handler, Action<SaveVmSaveStream> body)
        => Write(kind, context, handler, stream =>
        {
            body(stream);
            return true;
        }).Length;

    private (T Result, long Length) Write<T>(SectionKind kind, EntryContext context, SaveVmHandler handler, Func<SaveVmSaveStream, T> body)
    {
        var entry = context.Entry;
        string name = HandlerCaller.Name(entry);
        SaveVmLog.Section(run.Log, kind, entry.SectionId, entry.IdStr, output.Position);
        output.Section = name;
        entry.WriteHeader(output, kind);
        var stream = new SectionSaveStream(output, name);
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
        ElementWriter.Footer(output, entry.SectionId);
        output.Section = null;
        tally.AddSection(entry);
        return (result, length);
    }
}
