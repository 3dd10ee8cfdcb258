using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Vfio;

/// <summary>An open device of the kernel, whichever interface it was opened through.</summary>
/// <param name="path">The device in messages.</param>
/// <param name="device">Its descriptor; this class owns it and the rest.</param>
/// <param name="kept">What has to stay open as long as the device: /dev/iommu, or group and container. Closed after it, in this order.</param>
internal sealed class KernelVfioDriver(string path, SafeFileHandle device, params SafeFileHandle[] kept) : IVfioDriver
{
    private readonly SafeFileHandle _device = device;

    /// <inheritdoc/>
    public string Path => path;

    /// <inheritdoc/>
    public VfioMigrationFlags? GetFlags()
    {
        ulong flags = 0;
        return VfioIoctl.DeviceFeature(_device, VfioIoctl.FeatureGet | VfioIoctl.FeatureMigration, ref flags) >= 0
            ? (VfioMigrationFlags)flags
            : null;
    }

    /// <inheritdoc/>
    public VfioState GetState()
    {
        ulong data = 0;
        NativeError.Check(VfioIoctl.DeviceFeature(_device, VfioIoctl.FeatureGet | VfioIoctl.FeatureDeviceState, ref data),
            "ioctl(VFIO_DEVICE_FEATURE)", Path);
        return (VfioState)MemoryMarshal.Cast<ulong, uint>(new ReadOnlySpan<ulong>(in data))[0];
    }

    /// <inheritdoc/>
    public int SetState(VfioState state, out SafeFileHandle? data)
    {
        ulong argument = 0;
        var words = MemoryMarshal.Cast<ulong, int>(new Span<ulong>(ref argument));
        words[0] = (int)state;
        words[1] = -1;
        int result = VfioIoctl.DeviceFeature(_device, VfioIoctl.FeatureSet | VfioIoctl.FeatureDeviceState, ref argument);
        int error = result < 0 ? NativeError.Last : 0;
        int fd = MemoryMarshal.Cast<ulong, int>(new ReadOnlySpan<ulong>(in argument))[1];
        data = error == 0 && fd >= 0 ? new SafeFileHandle(fd, true) : null;
        return error;
    }

    /// <inheritdoc/>
    public long? GetStopCopySize()
    {
        ulong size = 0;
        return VfioIoctl.DeviceFeature(_device, VfioIoctl.FeatureGet | VfioIoctl.FeatureDataSize, ref size) >= 0 && size <= long.MaxValue
            ? (long)size
            : null;
    }

    /// <inheritdoc/>
    public int Read(SafeFileHandle data, Span<byte> buffer)
    {
        nint count = FdIo.Read(data, buffer);
        return count >= 0 ? (int)count : -NativeError.Last;
    }

    /// <inheritdoc/>
    public int GetPreCopyInfo(SafeFileHandle data, out PreCopyInfo info)
    {
        int result = VfioIoctl.GetPreCopyInfo(data, out ulong initial, out ulong dirty);
        int error = result < 0 ? NativeError.Last : 0;
        info = new PreCopyInfo((long)Math.Min(initial, long.MaxValue), (long)Math.Min(dirty, long.MaxValue));
        return error;
    }

    /// <inheritdoc/>
    public int ReadConfig(Span<byte> buffer)
    {
        if (VfioIoctl.GetConfigRegion(_device, out ulong size, out ulong offset) < 0 || size == 0)
        {
            return 0;
        }

        int count = (int)Math.Min(size, (ulong)buffer.Length);
        return (int)NativeError.Check(FdIo.ReadAt(_device, buffer[..count], (long)offset), "pread", Path);
    }

    /// <inheritdoc/>
    public int Reset() => VfioIoctl.Reset(_device) < 0 ? NativeError.Last : 0;

    /// <inheritdoc/>
    public void Dispose()
    {
        _device.Dispose();
        foreach (var handle in kept)
        {
            handle.Dispose();
        }
    }
}
