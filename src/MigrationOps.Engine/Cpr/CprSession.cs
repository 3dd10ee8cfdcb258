using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Cpr;

/// <summary>
/// A hand-over, with the operator in the middle: what was received, the registry that is handed on, and the channels to
/// the old and the new process, which stay open until the operator closes them. One
/// hand-over at a time; whoever closes the session ends it for everybody.
/// </summary>
internal sealed class CprSession : IDisposable
{
    private (CprName Name, int Id)[] _received = [];
    private IReadOnlyList<CprVfioDevice>? _devices;
    private CprReceiver? _incoming;
    private CprSender? _outgoing;
    private CprExecState? _exec;

    /// <summary>What is handed on.</summary>
    public CprFdRegistry Registry { get; } = new();

    /// <summary>The VFIO devices of the received state; null if it had no section for them.</summary>
    public IReadOnlyList<CprVfioDevice>? VfioDevices => _devices;

    /// <summary>True while the old process waits for <see cref="Close"/>.</summary>
    public bool HasIncoming => _incoming is not null;

    /// <summary>True while there is a channel or an executed state towards the new process.</summary>
    public bool HasOutgoing => _outgoing is not null || _exec is not null;

    /// <summary>Who sent the received state.</summary>
    public CprReceiver? Incoming => _incoming;

    /// <summary>Accepts one client, reads its state and fills the registry. The channel stays open.</summary>
    /// <param name="listener">Stays the caller's.</param>
    /// <param name="allowedUsers">User ids that may send.</param>
    /// <returns>The received entries, newest first, and the length of the state.</returns>
    public (IReadOnlyList<CprEntry> Entries, long ByteCount) Receive(CprListener listener, IReadOnlyCollection<uint> allowedUsers)
    {
        ArgumentNullException.ThrowIfNull(listener);
        RefuseSecond(_incoming is not null, "A source");
        var receiver = listener.Accept(allowedUsers);
        try
        {
            using var set = receiver.Receive();
            var result = AddReceived(set);
            _incoming = receiver;
            return result;
        }
        catch
        {
            receiver.Dispose();
            throw;
        }
    }

    /// <summary>Takes over what cpr-exec has left for this process.</summary>
    /// <param name="variableValue">The value of <see cref="CprExecState.VariableName"/>.</param>
    public (IReadOnlyList<CprEntry> Entries, long ByteCount) ReceiveExec(string? variableValue)
    {
        using var set = CprExecState.Read(variableValue);
        return AddReceived(set);
    }

    /// <summary>The entries of the registry that objects of the pipeline stand for, in the registry's order.</summary>
    /// <exception cref="CprException"><see cref="CprError.EntryNotFound"/> if one is not, or no longer, registered.</exception>
    public IReadOnlyList<CprEntry> Choose(IEnumerable<CprFd> described)
    {
        var registered = Registry.Entries;
        var byNumber = registered.ToDictionary(entry => entry.Number);
        var chosen = new HashSet<CprEntry>();
        foreach (var fd in described)
        {
            if (!byNumber.TryGetValue(fd.Fd, out var entry) || entry.Id != fd.Id || entry.Name.ToString() != fd.Name)
            {
                throw new CprException(CprError.EntryNotFound,
                    $"'{fd.Name}', id {fd.Id}, with descriptor {fd.Fd} is not registered, or no longer.")
                { Target = fd.Name };
            }

            chosen.Add(entry);
        }

        return [.. registered.Where(chosen.Contains)];
    }

    /// <summary>Which received entries are not among those given.</summary>
    public IReadOnlyList<(CprName Name, int Id)> FindLost(IEnumerable<CprEntry> entries)
    {
        var present = entries.Select(entry => (entry.Name, entry.Id)).ToHashSet();
        return [.. _received.Where(key => !present.Contains(key))];
    }

    /// <summary>Sends entries to the process that listens on a socket. The channel stays open.</summary>
    /// <param name="path">The socket.</param>
    /// <param name="entries">Newest first, out of the registry.</param>
    /// <param name="layout">The receiver's version.</param>
    /// <param name="allowLoss">True to send a set that lacks received entries or devices.</param>
    /// <param name="scope">Deadline and cancellation; must live until <see cref="Close"/>.</param>
    /// <exception cref="CprException"><see cref="CprError.EntriesLost"/> and others; nothing was sent.</exception>
    public CprSender Send(string path, IReadOnlyList<CprEntry> entries, CprStateLayout layout, bool allowLoss, TransferScope scope)
    {
        RefuseSecond(HasOutgoing, "A target");
        var devices = CheckContent(entries, layout, allowLoss);
        var sender = CprSender.Connect(path, scope);
        try
        {
            sender.Send(entries, devices);
            return _outgoing = sender;
        }
        catch
        {
            sender.Dispose();
            throw;
        }
    }

    /// <summary>Exposes entries to the programs that this process starts, as cpr-exec does.</summary>
    /// <exception cref="CprException"><see cref="CprError.EntriesLost"/> and others; nothing was exposed.</exception>
    public CprExecState SendExec(IReadOnlyList<CprEntry> entries, bool allowLoss)
    {
        RefuseSecond(HasOutgoing, "A target");
        var devices = CheckContent(entries, CprStateLayout.Qemu101, allowLoss);
        return _exec = CprExecState.Write(entries, devices ?? []);
    }

    /// <summary>
    /// Closes the channels: the old process then continues with its main migration channel, or with its guest if the
    /// operator has cancelled there.
    /// </summary>
    /// <param name="keepEntries">True to keep the registry, and with it the memory of the guest.</param>
    public void Close(bool keepEntries)
    {
        CloseTarget();
        // The source last: it starts its main channel at once, and our end of the target's channel must be closed first.
        CloseSource();
        if (!keepEntries)
        {
            Registry.Clear();
            _received = [];
            _devices = null;
        }
    }

    /// <summary>Closes the channel to the new process only, so that another one can be tried; the source waits on.</summary>
    public void CloseTarget()
    {
        _outgoing?.Dispose();
        _outgoing = null;
        _exec?.Dispose();
        _exec = null;
    }

    /// <summary>Closes the channel to the old process only, which then starts its main migration channel.</summary>
    public void CloseSource()
    {
        _incoming?.Dispose();
        _incoming = null;
    }

    /// <summary>Closes everything.</summary>
    public void Dispose() => Close(keepEntries: false);

    private (IReadOnlyList<CprEntry> Entries, long ByteCount) AddReceived(CprSet set)
    {
        var entries = set.Entries;
        Registry.Fill(set);
        _received = [.. entries.Select(entry => (entry.Name, entry.Id))];
        _devices = set.VfioDevices;
        return (entries, set.ByteCount);
    }

    private IReadOnlyList<CprVfioDevice>? CheckContent(IReadOnlyList<CprEntry> entries, CprStateLayout layout, bool allowLoss)
    {
        if (entries.Count == 0)
        {
            throw new CprException(CprError.NothingToDo, "There is no entry to hand over.");
        }

        CprSender.Check(entries);
        var lost = FindLost(entries);
        if (lost.Count > 0 && !allowLoss)
        {
            throw new CprException(CprError.EntriesLost,
                $"The set lacks {lost.Count:N0} of the {_received.Length:N0} received entries: "
                + string.Join(", ", lost.Take(5).Select(key => $"'{key.Name}', id {key.Id}")) + (lost.Count > 5 ? " and others." : "."));
        }

        bool section = layout == CprStateLayout.Qemu101 || (layout == CprStateLayout.AsReceived && _devices is not null);
        if (!section && _devices is { Count: > 0 } && !allowLoss)
        {
            throw new CprException(CprError.EntriesLost,
                $"QEMU 10.0's layout has no place for the {_devices.Count:N0} VFIO devices of the received state: "
                + string.Join(", ", _devices.Take(5).Select(device => $"'{device.Name}'")) + ".",
                action: "Hand over to QEMU 10.1 or later, or allow the loss, which leaves the devices behind.");
        }

        return section ? _devices ?? [] : null;
    }

    private static void RefuseSecond(bool there, string what)
    {
        if (there)
        {
            throw new CprException(CprError.NothingToDo, $"{what} is connected already; one hand-over at a time.",
                action: "End the other hand-over first.");
        }
    }
}
