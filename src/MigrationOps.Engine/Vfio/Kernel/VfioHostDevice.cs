namespace MigrationOps.Engine.Vfio;

/// <summary>A device of this host that is bound to VFIO, as sysfs shows it. Nothing was opened for it.</summary>
internal sealed record VfioHostDevice
{
    /// <summary>PCI address or UUID of a mediated device: what a group knows it by.</summary>
    internal required string Name { get; init; }

    /// <summary>Bus, such as <c>pci</c> or <c>mdev</c>; empty where sysfs is not there.</summary>
    internal string Bus { get; init; } = "";

    internal string? Driver { get; init; }

    internal string? PciId { get; init; }

    internal string? MdevType { get; init; }

    /// <summary>Number of the IOMMU group.</summary>
    internal string? Group { get; init; }

    /// <summary>The group's node, also where this user may not open it; null if it is not there.</summary>
    internal string? GroupNode { get; init; }

    /// <summary>True if the group is one without an IOMMU.</summary>
    internal bool IsNoIommu { get; init; }

    /// <summary>The device's own node; null if it is not there.</summary>
    internal string? Node { get; init; }

    /// <summary>Devices of the same group whose drivers keep VFIO from taking it: "address (driver)".</summary>
    internal IReadOnlyList<string> Hindrances { get; init; } = [];
}

/// <summary>A device and the interface through which it is to be opened.</summary>
/// <param name="Device">The device.</param>
/// <param name="Interface">The interface; <see cref="VfioInterface.None"/> if no node is there.</param>
internal sealed record VfioTarget(VfioHostDevice Device, VfioInterface Interface)
{
    /// <summary>The node that is opened; empty if there is none.</summary>
    internal string Node => Interface switch
    {
        VfioInterface.CharacterDevice => Device.Node!,
        VfioInterface.None => "",
        _ => Device.GroupNode!,
    };

    /// <summary>The device in messages and results: its own node, or its name, since a group may have several.</summary>
    internal string Path => Interface == VfioInterface.CharacterDevice ? Device.Node! : Device.Name;
}
