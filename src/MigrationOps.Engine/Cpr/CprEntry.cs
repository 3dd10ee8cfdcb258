using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Cpr;

/// <summary>A descriptor with its key. Whoever holds the entry owns the descriptor.</summary>
internal sealed class CprEntry : IDisposable
{
    private (ulong Device, ulong Inode)? _identity;

    internal CprEntry(CprName name, int id, SafeFileHandle handle, bool received)
    {
        Name = name;
        Id = id;
        Handle = handle;
        IsReceived = received;
    }

    /// <summary>The name.</summary>
    public CprName Name { get; }

    /// <summary>The id.</summary>
    public int Id { get; }

    /// <summary>The descriptor, close-on-exec.</summary>
    public SafeFileHandle Handle { get; }

    /// <summary>True if it came from a peer.</summary>
    public bool IsReceived { get; }

    /// <summary>The next older entry of the same key in the registry.</summary>
    internal CprEntry? Older { get; set; }

    /// <summary>Remembers what the descriptor leads to, from when on <see cref="Verify"/> can tell whether it still does.</summary>
    internal void Remember() => _identity = FileStatus.TryGetIdentity(Handle);

    /// <summary>Fails if something in this process has closed the descriptor, or put another one in its place.</summary>
    /// <exception cref="CprException"><see cref="CprError.DescriptorClosed"/>.</exception>
    public void Verify()
    {
        if (Handle.IsClosed || FileStatus.TryGetIdentity(Handle) is not { } now)
        {
            throw new CprException(CprError.DescriptorClosed,
                $"Entry '{Name}', id {Id}: its descriptor was closed after it was registered.")
            { Target = Name.ToString() };
        }

        if (_identity is { } before && now != before)
        {
            throw new CprException(CprError.DescriptorClosed,
                $"Entry '{Name}', id {Id}: its descriptor {Number} was closed, and the number is now another descriptor.")
            { Target = Name.ToString() };
        }
    }

    internal int Number => (int)Handle.DangerousGetHandle();

    /// <summary>Closes the descriptor, unless the number is now another descriptor.</summary>
    public void Dispose()
    {
        if (_identity is not null && !Handle.IsClosed && FileStatus.TryGetIdentity(Handle) != _identity)
        {
            Handle.SetHandleAsInvalid();
        }

        Handle.Dispose();
    }
}

/// <summary>What one CPR state holds. It owns the descriptors until the entries are taken over.</summary>
/// <param name="entries">In the order of the state: newest first.</param>
/// <param name="devices">The VFIO devices; null if the state has no section for them, as QEMU 10.0's.</param>
/// <param name="byteCount">How long the state was.</param>
internal sealed class CprSet(IReadOnlyList<CprEntry> entries, IReadOnlyList<CprVfioDevice>? devices, long byteCount) : IDisposable
{
    /// <summary>Newest first.</summary>
    public IReadOnlyList<CprEntry> Entries { get; private set; } = entries;

    /// <summary>The VFIO devices; null if the state has no section for them, as QEMU 10.0's.</summary>
    public IReadOnlyList<CprVfioDevice>? VfioDevices { get; } = devices;

    /// <summary>How many bytes the state had.</summary>
    public long ByteCount { get; } = byteCount;

    /// <summary>Gives the entries to the caller, who owns them from now on.</summary>
    internal IReadOnlyList<CprEntry> TakeEntries()
    {
        var taken = Entries;
        Entries = [];
        return taken;
    }

    /// <summary>Closes what has not been taken over.</summary>
    public void Dispose()
    {
        foreach (var entry in TakeEntries())
        {
            entry.Dispose();
        }
    }
}
