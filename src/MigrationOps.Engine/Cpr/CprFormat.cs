namespace MigrationOps.Engine.Cpr;

/// <summary>How the descriptors of a state travel.</summary>
internal enum CprMode
{
    /// <summary>cpr-transfer: over a UNIX socket, each with a dummy byte.</summary>
    Transfer,

    /// <summary>cpr-exec (QEMU 10.2 and later): the process stays, so the state has their numbers.</summary>
    Exec,
}

/// <summary>A VFIO device that uses iommufd: what QEMU 10.1 and later hands over beside its descriptors.</summary>
/// <param name="Name">The device's name.</param>
/// <param name="DeviceId">Its id in iommufd.</param>
/// <param name="IoasId">The address space it is attached to.</param>
/// <param name="HwptId">The hardware page table it is attached to.</param>
internal sealed record CprVfioDevice(CprName Name, int DeviceId, uint IoasId, uint HwptId);

/// <summary>The fixed values of the container. Source: QEMU 10.0 to 11.1, <c>migration/cpr.c</c>, and captured states.</summary>
internal static class CprFormat
{
    internal const uint Magic = 0x51435052;
    internal const uint Version = 1;
    internal const byte EndOfList = 0;
    internal const byte ListElement = 1;
    internal const byte DummyByte = 0x20;

    // QEMU_VM_SUBSECTION
    internal const byte Subsection = 5;
    internal const uint VfioDevicesVersion = 1;

    /// <summary>No real state comes near; it keeps what a malformed one can make us hold within bounds.</summary>
    internal const int MaxEntries = 65_536;

    internal const int MaxNameBytesTotal = 16 << 20;

    /// <summary>The environment variable in which cpr-exec passes the number of the state's memfd.</summary>
    internal const string ExecVariable = "QEMU_CPR_EXEC_STATE";

    internal static ReadOnlySpan<byte> VfioDevicesName => "CprState/vfio devices"u8;
}
