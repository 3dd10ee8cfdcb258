using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Vfio;

/// <summary>The ioctls of one VFIO device: the boundary that a test double takes the place of.</summary>
public interface IVfioDriver : IDisposable
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

    /// <summary>VFIO_DEVICE_RESET.</summary>
    /// <returns>0, or the errno.</returns>
    int Reset();
}
