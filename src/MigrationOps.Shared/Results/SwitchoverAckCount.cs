namespace MigrationOps;

/// <summary>How many acknowledgements of a target a source waits for before it stops its device. Nothing in the stream says it.</summary>
public enum SwitchoverAckCount
{
    /// <summary>
    /// What QEMU does for the stream's machine type: <see cref="PerDevice"/> from version 11.1 on, such as pc-q35-11.1, otherwise
    /// <see cref="Once"/> - also where the machine type has no version.
    /// </summary>
    ByMachineType,

    /// <summary>One for all devices, which comes in any case. QEMU up to 11.0, and its property <c>switchover-ack-legacy</c>.</summary>
    Once,

    /// <summary>One for each time that a device on the source asks for one; none, if none asks.</summary>
    PerDevice,
}
