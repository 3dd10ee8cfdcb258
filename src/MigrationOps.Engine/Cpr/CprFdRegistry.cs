using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Cpr;

/// <summary>
/// The descriptors that the next process is to have, by name and id. It owns duplicates of what is registered, all
/// close-on-exec. As in QEMU several entries may have the same key: the newest is the one that is found and deleted.
/// Any thread may call.
/// </summary>
internal sealed class CprFdRegistry : IDisposable
{
    private readonly Lock _lock = new();
    private readonly LinkedList<CprEntry> _entries = [];
    private readonly Dictionary<(CprName Name, int Id), LinkedListNode<CprEntry>> _newest = [];

    /// <summary>How many entries there are.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _entries.Count;
            }
        }
    }

    /// <summary>The entries, newest first, as they are now. They stay the registry's.</summary>
    public IReadOnlyList<CprEntry> Entries
    {
        get
        {
            lock (_lock)
            {
                return [.. _entries];
            }
        }
    }

    /// <summary>Registers a duplicate of a descriptor; the caller keeps its own.</summary>
    /// <exception cref="CprException"><see cref="CprError.DescriptorLimit"/>.</exception>
    public CprEntry SaveFd(CprName name, int id, SafeHandle handle)
    {
        ArgumentNullException.ThrowIfNull(handle);
        return Add(name, id, Duplicate(() => Fcntl.Duplicate(handle, $"entry '{name}'"), name, id));
    }

    /// <summary>Registers a duplicate of a descriptor of this process; the original stays open.</summary>
    /// <exception cref="CprException"><see cref="CprError.DescriptorClosed"/>, <see cref="CprError.DescriptorLimit"/>.</exception>
    public CprEntry SaveFd(CprName name, int id, int number)
        => Add(name, id, Duplicate(() => Fcntl.Duplicate(number, $"entry '{name}'"), name, id, number));

    /// <summary>Removes the newest entry of the key and closes its descriptor.</summary>
    /// <returns>False if there is none.</returns>
    public bool DeleteFd(CprName name, int id)
    {
        lock (_lock)
        {
            if (!_newest.TryGetValue((name, id), out var node))
            {
                return false;
            }

            Remove(node);
            return true;
        }
    }

    /// <summary>The newest entry of the key; it stays the registry's. Null if there is none.</summary>
    public CprEntry? FindFd(CprName name, int id)
    {
        lock (_lock)
        {
            return _newest.TryGetValue((name, id), out var node) ? node.Value : null;
        }
    }

    /// <summary>Takes over all entries of a received set, in its order; or none, if one of its keys is there already.</summary>
    /// <exception cref="CprException"><see cref="CprError.DuplicateEntry"/>; the set keeps its descriptors.</exception>
    public void Fill(CprSet set)
    {
        ArgumentNullException.ThrowIfNull(set);
        lock (_lock)
        {
            foreach (var entry in set.Entries)
            {
                if (_newest.ContainsKey((entry.Name, entry.Id)))
                {
                    throw new CprException(CprError.DuplicateEntry,
                        $"The received set has '{entry.Name}', id {entry.Id}, which is registered here already.")
                    { Target = entry.Name.ToString() };
                }
            }

            // The first on the wire is the newest.
            foreach (var entry in set.TakeEntries().Reverse())
            {
                AddFirst(entry);
            }
        }
    }

    /// <summary>Closes everything.</summary>
    /// <returns>How many entries these were.</returns>
    public int Clear()
    {
        lock (_lock)
        {
            int count = _entries.Count;
            foreach (var entry in _entries)
            {
                entry.Dispose();
            }

            _entries.Clear();
            _newest.Clear();
            return count;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Clear();

    private CprEntry Add(CprName name, int id, SafeFileHandle handle)
    {
        var entry = new CprEntry(name, id, handle, received: false);
        lock (_lock)
        {
            AddFirst(entry);
        }

        return entry;
    }

    private void AddFirst(CprEntry entry)
    {
        var key = (entry.Name, entry.Id);
        entry.Remember();
        entry.Older = _newest.TryGetValue(key, out var older) ? older.Value : null;
        _newest[key] = _entries.AddFirst(entry);
    }

    private void Remove(LinkedListNode<CprEntry> node)
    {
        var entry = node.Value;
        var key = (entry.Name, entry.Id);
        if (entry.Older is null)
        {
            _newest.Remove(key);
        }
        else
        {
            // Entries of one key are rare; the older one is behind the newer one.
            var older = node.Next;
            while (older!.Value != entry.Older)
            {
                older = older.Next;
            }

            _newest[key] = older;
        }

        _entries.Remove(node);
        entry.Dispose();
    }

    private static SafeFileHandle Duplicate(Func<SafeFileHandle> duplicate, CprName name, int id, int number = -1)
    {
        for (bool raised = false; ; raised = true)
        {
            try
            {
                return duplicate();
            }
            catch (WireException e) when (e.Reason == WireError.TooManyDescriptors)
            {
                var (soft, hard) = ResourceLimit.GetOpenFiles();
                if (raised || !ResourceLimit.TryRaiseOpenFiles(Math.Max(hard, soft * 2)))
                {
                    throw new CprException(CprError.DescriptorLimit,
                        $"Entry '{name}', id {id}, would need more than the {soft:N0} descriptors that this process may "
                        + "have open, and the limit cannot be raised from here.", e);
                }
            }
            catch (WireException e) when (number >= 0)
            {
                throw new CprException(CprError.DescriptorClosed,
                    $"Entry '{name}', id {id}: this process has no open descriptor {number}.", e,
                    "Give the number of a descriptor that is open in the PowerShell process itself.")
                { Target = number };
            }
        }
    }
}
