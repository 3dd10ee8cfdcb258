using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The sections of a target: whose they are by name and by the ids that the stream gives them, and the loading of one. In postcopy the package's
/// thread and the main stream's use it at the same time.
/// </summary>
internal sealed class TargetSections
{
    private readonly IReadOnlyList<EntryContext> _contexts;
    private readonly DowntimeParts _downtime;
    private readonly Func<SaveVmEntry, EntryContext> _newContext;
    private readonly ILogger _logger;
    private readonly Lock _gate = new();
    private readonly Dictionary<uint, LoadedSection> _byId = [];
    private readonly Dictionary<SaveVmAlias, EntryContext> _byName = [];
    private long _count;

    /// <param name="contexts">The devices.</param>
    /// <param name="downtime">Measures the loading of what comes while the device stands still.</param>
    /// <param name="newContext">Makes a device's part in the migration that begins while it runs.</param>
    /// <param name="logger">Gets a line per section.</param>
    internal TargetSections(
        IReadOnlyList<EntryContext> contexts, DowntimeParts downtime, Func<SaveVmEntry, EntryContext> newContext, ILogger logger)
    {
        (_contexts, _downtime, _newContext, _logger) = (contexts, downtime, newContext, logger);
        foreach (var context in contexts)
        {
            foreach (var name in context.Entry.Aliases.Prepend(new SaveVmAlias(context.Entry.IdStr, context.Entry.InstanceId)))
            {
                _byName.Add(name, context);
            }
        }
    }

    /// <summary>Keeps the sections of devices that are not registered; null if they are refused.</summary>
    internal SectionSpool? Spool { get; set; }

    /// <summary>How many have been loaded.</summary>
    internal long Count => Interlocked.Read(ref _count);

    /// <summary>The devices that had one.</summary>
    internal string[] Devices => [.. _byId.Values.Select(s => s.Context.Entry.ToString()).Distinct()];

    /// <summary>The device of a name, or null.</summary>
    internal EntryContext? Find(SaveVmAlias name)
    {
        lock (_gate)
        {
            return _byName.GetValueOrDefault(name);
        }
    }

    /// <summary>Loads a START or FULL section, which names its device.</summary>
    internal void Begin(StreamLoader loader, StreamSection start, long offset)
    {
        LoadedSection section;
        lock (_gate)
        {
            section = Assign(loader, start, offset);
        }

        Load(loader, start.Kind, section, offset);
    }

    /// <summary>Loads a PART or END section, which names the id of one that was started.</summary>
    internal void Continue(StreamLoader loader, SectionPart part, long offset)
    {
        LoadedSection? section;
        lock (_gate)
        {
            section = _byId.GetValueOrDefault(part.Id);
        }

        Load(loader, part.Kind, section ?? throw StreamException.At(StreamError.InvalidSectionId, offset,
            $"A {part.Kind} section names id {part.Id}, which no section has started", $"section {part.Id}"), offset);
    }

    private LoadedSection Assign(StreamLoader loader, StreamSection start, long offset)
    {
        string name = $"section {start.Id} ({start.IdStr}" + (start.InstanceId == 0 ? ")" : $"/{start.InstanceId})");
        if (!_byName.TryGetValue(new SaveVmAlias(start.IdStr, start.InstanceId), out var context) && (context = AddUnknown(loader, start)) is null)
        {
            throw SaveVmException.At(SaveVmError.UnknownSection, offset,
                _contexts.Any(c => c.Entry.IdStr == start.IdStr)
                    ? $"No instance {start.InstanceId} of '{start.IdStr}' is registered here, for {name}"
                    : $"Nothing is registered here as '{start.IdStr}', for {name}", name);
        }

        if (start.VersionId > (uint)context.Entry.VersionId)
        {
            throw SaveVmException.At(SaveVmError.VersionTooNew, offset,
                $"{name} has version {start.VersionId}, and version {context.Entry.VersionId} is the newest that is registered", name);
        }

        if (_byId.TryGetValue(start.Id, out var other) && other.Context != context)
        {
            throw StreamException.At(StreamError.InvalidSectionId, offset,
                $"Section id {start.Id} is that of {other.Context.Entry}, and is started again for {start.IdStr}", name);
        }

        Spool?.RegisterSection(start);
        return _byId[start.Id] = new LoadedSection(context, start.Id, (int)start.VersionId, name);
    }

    // A section without a registered handler is kept, if there is a place for it.
    private EntryContext? AddUnknown(StreamLoader loader, StreamSection start)
    {
        if (Spool is not { } spool)
        {
            return null;
        }

        var context = _newContext(spool.AddUnknown(start, loader.Input.Offset));
        _byName.Add(new SaveVmAlias(start.IdStr, start.InstanceId), context);
        return context;
    }

    private void Load(StreamLoader loader, SectionKind type, LoadedSection section, long offset)
    {
        var entry = section.Context.Entry;
        if (!entry.Has(SaveVmHandler.LoadState))
        {
            throw SaveVmException.At(SaveVmError.InvalidHandlers, offset,
                $"The handlers of '{entry}' do not offer LoadState, and {section.Name} is to be loaded", section.Name);
        }

        var input = loader.Input;
        SaveVmLog.Section(_logger, type, section.Id, entry.IdStr, offset);
        using var part = _downtime.Measure(type, input);
        using var kept = Spool?.Keep(type, entry, input);
        input.Section = section.Name;
        input.BeginBody(section.Id);
        var stream = new SectionLoadStream(input, section.Name);
        try
        {
            loader.Caller.Call(entry, SaveVmHandler.LoadState, () => entry.Handlers.LoadState(stream, section.Context, section.VersionId));
        }
        finally
        {
            stream.Revoke();
            input.EndBody();
        }

        input.ReadFooter(section.Name, section.Id);
        input.Section = null;
        Interlocked.Increment(ref _count);
    }

    private sealed record LoadedSection(EntryContext Context, uint Id, int VersionId, string Name);
}
