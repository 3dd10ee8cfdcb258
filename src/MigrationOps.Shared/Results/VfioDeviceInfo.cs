namespace MigrationOps;

/// <summary>Which of the kernel's interfaces leads to a VFIO device.</summary>
public enum VfioInterface
{
    /// <summary>None: no node of the device or its group is there.</summary>
    None = 0,

    /// <summary>A character device of its own, <c>/dev/vfio/devices/vfioN</c>, with an I/O address space of <c>/dev/iommu</c>.</summary>
    CharacterDevice = 1,

    /// <summary>Its IOMMU group, <c>/dev/vfio/N</c>, in a container of <c>/dev/vfio/vfio</c>.</summary>
    Group = 2,

    /// <summary>A group without an IOMMU, <c>/dev/vfio/noiommu-N</c>: the device reaches all memory of the host, and the kernel is tainted once it is opened.</summary>
    NoIommuGroup = 3,
}

/// <summary>A VFIO device of this host: what sysfs says of it and, if it was opened, what it can do in a migration.</summary>
public sealed record VfioDeviceInfo
{
    /// <summary>What to name it by: its PCI address, or the UUID of a mediated device.</summary>
    public required string Name { get; init; }

    /// <summary>The node that leads to it: its own, or that of its group; empty if there is none.</summary>
    public required string Path { get; init; }

    /// <summary>Which interface that is.</summary>
    public required VfioInterface Interface { get; init; }

    /// <summary>True if a command could use it now, as far as it can be seen without opening it.</summary>
    public required bool Usable { get; init; }

    /// <summary>Why it cannot be used: the ErrorId that a command would end with; empty if it can.</summary>
    public string Reason { get; init; } = "";

    /// <summary>The reason in words, with the remedy.</summary>
    public string Message { get; init; } = "";

    /// <summary>PCI address; null if it is no PCI device of the host.</summary>
    public string? PciAddress { get; init; }

    /// <summary>Vendor and device ID as lspci writes them, such as <c>15b3:101e</c>; null for a mediated device.</summary>
    public string? PciId { get; init; }

    /// <summary>UUID of a mediated device; else null.</summary>
    public string? MdevUuid { get; init; }

    /// <summary>Type of a mediated device, such as <c>mtty-1</c>; else null.</summary>
    public string? MdevType { get; init; }

    /// <summary>The driver that it is bound to; null if there is none.</summary>
    public string? Driver { get; init; }

    /// <summary>Number of its IOMMU group; null without one.</summary>
    public string? Group { get; init; }

    /// <summary>The processes that hold it or its group, such as <c>4711 (qemu-system-x86)</c>, as far as this user can see them.</summary>
    public string[] Holders { get; init; } = [];

    /// <summary>True if it was opened and asked; the properties below are known only then.</summary>
    public bool Probed { get; init; }

    /// <summary>True if its driver can move its state; null as long as that is not known.</summary>
    public bool? Migratable { get; init; }

    /// <summary>What it can do: STOP_COPY, P2P, PRE_COPY.</summary>
    public string[] Flags { get; init; } = [];

    /// <summary>The state it is in, by the kernel's name; empty if it cannot migrate or was not opened.</summary>
    public string State { get; init; } = "";

    /// <summary>Bytes that it would give now when it is stopped, about; null if the driver does not say.</summary>
    public long? StopCopySize { get; init; }
}
