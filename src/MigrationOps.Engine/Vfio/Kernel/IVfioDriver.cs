using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Vfio;

/// <summary>The ioctls of one VFIO device: the boundary that a test double takes the place of.</summary>
internal interface IVfioDriver : IDisposable
{
    /// <summary>The device's path.</summary>
    string Path { get; }

    /// <summary>VFIO_DEVICE_FEATURE_MIGRATION.</summary>
    /// <returns>Null if the device cannot migrate.</returns>
    VfioMigrationFlags? GetFlags();

    /// <summary>VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, get.</summary>
    VfioState GetState();

    /// <summary>VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, set.</summary>
    /// <param name="state">The state to enter.</param>
    /// <param name="data">The data descriptor that came with it, which the caller owns; else null.</param>
    /// <returns>0, or the errno.</returns>
    int SetState(VfioState state, out SafeFileHandle? data);

    /// <summary>VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: bytes that STOP_COPY would give now, about; null if the driver does not say.</summary>
    long? GetStopCopySize();

    /// <summary>read(2) on the data descriptor.</summary>
    /// <param name="data">The descriptor.</param>
    /// <param name="buffer">Where the state goes.</param>
    /// <returns>Bytes read, 0 at the end, or the errno with a minus sign; -ENOMSG where pre-copy has nothing now.</returns>
    int Read(SafeFileHandle data, Span<byte> buffer);

    /// <summary>VFIO_MIG_GET_PRECOPY_INFO on the data descriptor.</summary>
    /// <param name="data">The descriptor.</param>
    /// <param name="info">What is left.</param>
    /// <returns>0, or the errno.</returns>
    int GetPreCopyInfo(SafeFileHandle data, out PreCopyInfo info);

    /// <summary>Reads the PCI configuration space through its region (VFIO_DEVICE_GET_REGION_INFO, pread).</summary>
    /// <returns>Bytes read from its start; 0 if it is no PCI device.</returns>
    int ReadConfig(Span<byte> buffer);

    /// <summary>VFIO_DEVICE_RESET.</summary>
    /// <returns>0, or the errno.</returns>
    int Reset();
}

/// <summary>What a device in a pre-copy state has to give, about.</summary>
/// <param name="InitialBytes">The part that the target wants before the switchover.</param>
/// <param name="DirtyBytes">What has changed since, or is there besides.</param>
internal readonly record struct PreCopyInfo(long InitialBytes, long DirtyBytes)
{
    /// <summary>True if there is nothing to read now.</summary>
    public bool IsEmpty => InitialBytes == 0 && DirtyBytes == 0;
}
