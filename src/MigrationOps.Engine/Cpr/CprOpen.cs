using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Cpr;

/// <summary>Opens what is to be registered, and leaves the registry's duplicate as the only one.</summary>
internal static class CprOpen
{
    /// <summary>Registers an existing file, device or FIFO.</summary>
    public static CprEntry File(CprFdRegistry registry, CprName name, int id, string path, FileAccess access)
    {
        ArgumentNullException.ThrowIfNull(registry);
        using var handle = OpenFile.Existing(path, access);
        return registry.SaveFd(name, id, handle);
    }

    /// <summary>Registers new memory of a size, with a name that /proc shows.</summary>
    public static CprEntry Memory(CprFdRegistry registry, CprName name, int id, string memoryName, long size)
    {
        ArgumentNullException.ThrowIfNull(registry);
        using var handle = MemFd.Create(memoryName, size);
        return registry.SaveFd(name, id, handle);
    }
}
