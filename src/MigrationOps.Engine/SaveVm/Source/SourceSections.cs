using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.SaveVm;

/// <summary>The sections of a source: the framing around each handler's call, and what is told of it in the description.</summary>
internal sealed class SourceSections(SourceSession session, ILogger logger) : IDisposable
{
    private readonly HashSet<SaveVmEntry> _sent = [];
    private readonly DescriptionWriter _description = new(session.Options.PageSize);

    /// <summary>How many were written.</summary>
    internal long Count { get; private set; }

    /// <summary>The devices that had one.</summary>
    internal string[] Devices => [.. _sent.Select(e => e.ToString())];

    /// <summary>Ends the description of the FULL sections, which follows the end mark.</summary>
    internal ReadOnlySpan<byte> EndDescription() => _description.Element();

    /// <summary>Asks the device's question if it has one; a device that does not say is active.</summary>
    internal bool IsActive(EntryContext context)
        => !context.Entry.Has(SaveVmHandler.IsActive)
            || session.Caller.Call(context.Entry, SaveVmHandler.IsActive, () => context.Entry.Handlers.IsActive(context));

    /// <summary>Does something with every active device that offers a handler.</summary>
    internal void Each(SaveVmHandler handler, Action<EntryContext> action)
    {
        foreach (var context in session.Contexts)
        {
            if (context.Entry.Has(handler) && IsActive(context))
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
        => _description.Add(context.Entry, Write(SectionKind.Full, context, SaveVmHandler.SaveState,
            stream => context.Entry.Handlers.SaveState(stream, context)));

    /// <inheritdoc/>
    public void Dispose() => _description.Dispose();

    private long Write(SectionKind kind, EntryContext context, SaveVmHandler handler, Action<SaveVmSaveStream> body)
        => Write(kind, context, handler, stream =>
        {
            body(stream);
            return true;
        }).Length;

    private (T Result, long Length) Write<T>(SectionKind kind, EntryContext context, SaveVmHandler handler, Func<SaveVmSaveStream, T> body)
    {
        var output = session.Output;
        var entry = context.Entry;
        string name = HandlerCaller.Name(entry);
        SaveVmLog.Section(logger, kind, entry.SectionId, entry.IdStr, output.Position);
        output.Section = name;
        entry.WriteHeader(output, kind);
        var stream = new SectionSaveStream(output, name);
        T result;
        try
        {
            result = session.Caller.Call(entry, handler, () => body(stream));
        }
        finally
        {
            stream.Revoke();
        }

        long length = stream.BodyLength;
        ElementWriter.Footer(output, entry.SectionId);
        output.Section = null;
        Count++;
        _sent.Add(entry);
        return (result, length);
    }
}
