using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>The ioctls of linux/vfio.h that a migration needs. Results below zero are returned with errno, not thrown.</summary>
internal static partial class VfioIoctl
{
    internal const uint FeatureGet = 1 << 16;
    internal const uint FeatureSet = 1 << 17;
    internal const uint FeatureMigration = 1;
    internal const uint FeatureDeviceState = 2;
    internal const uint FeatureDataSize = 9;

    private const nuint Base = ';' << 8;
    private const nuint ResetRequest = Base + 111;
    private const nuint FeatureRequest = Base + 117;
    private const nuint BindRequest = Base + 118;

    [StructLayout(LayoutKind.Sequential)]
    private struct Feature
    {
        public uint Size;
        public uint Flags;
        public ulong Data;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Bind
    {
        public uint Size;
        public uint Flags;
        public int IommuFd;
        public uint DeviceId;
    }

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    private static unsafe partial int IoctlNative(int fd, nuint request, void* argument);

    /// <summary>VFIO_DEVICE_FEATURE with eight bytes of data, which every feature used here has.</summary>
    internal static unsafe int DeviceFeature(SafeHandle device, uint flags, ref ulong data)
    {
        var feature = new Feature { Size = (uint)sizeof(Feature), Flags = flags, Data = data };
        using var fd = new BorrowedFd(device);
        int result = IoctlNative(fd.Number, FeatureRequest, &feature);
        data = feature.Data;
        return result;
    }

    internal static unsafe int Reset(SafeHandle device)
    {
        using var fd = new BorrowedFd(device);
        return IoctlNative(fd.Number, ResetRequest, null);
    }

    /// <summary>VFIO_DEVICE_BIND_IOMMUFD, without which a device node allows nothing else.</summary>
    internal static unsafe int BindIommu(SafeHandle device, SafeHandle iommu)
    {
        using var fd = new BorrowedFd(device);
        using var iommuFd = new BorrowedFd(iommu);
        var bind = new Bind { Size = (uint)sizeof(Bind), IommuFd = iommuFd.Number };
        return IoctlNative(fd.Number, BindRequest, &bind);
    }
}
