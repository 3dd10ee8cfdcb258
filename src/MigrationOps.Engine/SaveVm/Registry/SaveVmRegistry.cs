using System.Text;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The devices that take part in migrations, as QEMU's list of SaveStateEntry: sorted by priority, among equals in the order of
/// registration. Section ids are numbered from 1 in the order of registration and never used twice. Any thread may use it; a running
/// migration keeps the entries that it began with.
/// </summary>
internal sealed class SaveVmRegistry
{
    /// <summary>Asks for the next free instance id of that idstr.</summary>
    public const long AnyInstance = -1;

    private const SaveVmHandler Iterating = SaveVmHandler.SaveLiveIterate | SaveVmHandler.SaveLiveCompletePrecopy;

    private readonly Lock _gate = new();
    private readonly List<SaveVmEntry> _entries = [];
    // Not from 0: to a QEMU target, a PART of id 0 matches any of its devices that has no section yet.
    private uint _nextSectionId = 1;

    /// <summary>The entries, in the order in which a migration calls them.</summary>
    public IReadOnlyList<SaveVmEntry> Entries
    {
        get
        {
            lock (_gate)
            {
                return [.. _entries];
            }
        }
    }

    /// <summary>Registers a device.</summary>
    /// <param name="idStr">The name of its sections, 1 to 255 bytes of UTF-8 without control characters.</param>
    /// <param name="instanceId">Its number among those of the same name; <see cref="AnyInstance"/> for the next free one.</param>
    /// <param name="versionId">The version that it writes, and the newest that it reads.</param>
    /// <param name="handlers">What it does. Which handlers it offers is asked now, once.</param>
    /// <param name="priority">Higher comes first.</param>
    /// <param name="aliases">Other names under which its sections are accepted when loading.</param>
    /// <exception cref="SaveVmException"><see cref="SaveVmError.InvalidName"/>, <see cref="SaveVmError.DuplicateEntry"/>,
    /// <see cref="SaveVmError.InvalidHandlers"/>.</exception>
    public SaveVmEntry Register(string idStr, long instanceId, int versionId, ISaveVmHandlers handlers, int priority = 0,
        params SaveVmAlias[] aliases)
    {
        ArgumentNullException.ThrowIfNull(handlers);
        ArgumentNullException.ThrowIfNull(aliases);
        ArgumentOutOfRangeException.ThrowIfNegative(versionId);
        ArgumentOutOfRangeException.ThrowIfLessThan(instanceId, AnyInstance);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(instanceId, uint.MaxValue - 1L);
        CheckName(idStr);
        foreach (var alias in aliases)
        {
            CheckName(alias.IdStr);
        }

        CheckHandlers(idStr, handlers.Offered);
        lock (_gate)
        {
            uint instance = instanceId == AnyInstance ? NextInstance(idStr, aliases) : (uint)instanceId;
            var names = new HashSet<SaveVmAlias>();
            foreach (var name in aliases.Prepend(new SaveVmAlias(idStr, instance)))
            {
                string? owner = _entries.Find(e => e.IsKnownAs(name.IdStr, name.InstanceId)) is { } other ? $"as section {other.SectionId} of {other}"
                    : names.Add(name) ? null
                    : "by the same device";
                if (owner is not null)
                {
                    throw new SaveVmException(SaveVmError.DuplicateEntry, $"'{name.IdStr}' instance {name.InstanceId} is already registered, {owner}.")
                    { Section = name.IdStr, Target = idStr };
                }
            }

            var entry = new SaveVmEntry(idStr, instance, versionId, _nextSectionId++, priority, handlers, aliases);
            int place = _entries.FindIndex(e => e.Priority < priority);
            _entries.Insert(place < 0 ? _entries.Count : place, entry);
            return entry;
        }
    }

    /// <summary>Takes entries out: those of that name, or of these handlers under that name.</summary>
    /// <param name="idStr">The name.</param>
    /// <param name="handlers">Only the entries of these handlers; null for all of the name.</param>
    /// <returns>What was taken out; never empty.</returns>
    /// <exception cref="SaveVmException"><see cref="SaveVmError.NotRegistered"/>.</exception>
    public IReadOnlyList<SaveVmEntry> Unregister(string idStr, ISaveVmHandlers? handlers = null)
    {
        lock (_gate)
        {
            var found = _entries.FindAll(e => e.IdStr == idStr && (handlers is null || ReferenceEquals(e.Handlers, handlers)));
            if (found.Count == 0)
            {
                throw NotRegistered(idStr);
            }

            _entries.RemoveAll(found.Contains);
            return found;
        }
    }

    /// <summary>Takes one entry out.</summary>
    /// <exception cref="SaveVmException"><see cref="SaveVmError.NotRegistered"/>.</exception>
    public void Unregister(SaveVmEntry entry)
    {
        ArgumentNullException.ThrowIfNull(entry);
        lock (_gate)
        {
            if (!_entries.Remove(entry))
            {
                throw NotRegistered(entry.ToString());
            }
        }
    }

    private static SaveVmException NotRegistered(string name)
        => new(SaveVmError.NotRegistered, $"No handler is registered as '{name}'.") { Target = name };

    private static void CheckName(string idStr)
    {
        int length = Encoding.UTF8.GetByteCount(idStr ?? "");
        if (length is 0 or > StreamText.MaxName || idStr!.Any(char.IsControl))
        {
            throw new SaveVmException(SaveVmError.InvalidName,
                length > StreamText.MaxName
                    ? $"The idstr '{idStr![..32]}…' has {length:N0} bytes; a stream has room for {StreamText.MaxName}."
                    : length == 0 ? "The idstr is empty." : "The idstr has control characters.")
            { Target = idStr };
        }
    }

    private static void CheckHandlers(string idStr, SaveVmHandler offered)
    {
        string? lacking = offered == SaveVmHandler.None ? "any handler"
            : (offered & Iterating) != 0 && !offered.HasFlag(SaveVmHandler.SaveSetup)
                ? "SaveSetup, without which the target never learns the name of its PART and END sections"
            : offered.HasFlag(SaveVmHandler.SaveLiveIterate)
                && (offered & (SaveVmHandler.StatePendingEstimate | SaveVmHandler.StatePendingExact)) == 0
                ? "StatePendingEstimate or StatePendingExact, without which the iterations have no end"
            : null;
        if (lacking is not null)
        {
            throw new SaveVmException(SaveVmError.InvalidHandlers, $"The handlers of '{idStr}' do not offer {lacking}.") { Target = idStr };
        }
    }

    // One more than the highest, as in QEMU, aliases included; the lowest free one if the highest is the last that there is.
    private uint NextInstance(string idStr, SaveVmAlias[] aliases)
    {
        var taken = _entries.SelectMany(e => e.Names).Concat(aliases).Where(n => n.IdStr == idStr).Select(n => n.InstanceId).ToHashSet();
        uint next = taken.DefaultIfEmpty(uint.MaxValue).Max() is < uint.MaxValue - 1 and var highest ? highest + 1 : 0;
        while (taken.Contains(next))
        {
            next++;
        }

        return next;
    }
}
