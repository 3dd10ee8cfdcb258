namespace MigrationOps;

/// <summary>What sort of device state a state file holds. The numbers stand in the file's header.</summary>
public enum DeviceStateKind
{
    /// <summary>Bare bytes of which only the manifest or the operator knows more.</summary>
    Unknown = 0,

    /// <summary>The internal state of a vhost-user back-end.</summary>
    VhostUser = 1,

    /// <summary>The state of a VFIO device.</summary>
    Vfio = 2,

    /// <summary>The body of a section of a QEMU migration stream.</summary>
    SaveVmSection = 3,
}
