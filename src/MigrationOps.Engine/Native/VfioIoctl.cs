using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>What VFIO_GROUP_GET_STATUS says.</summary>
[Flags]
internal enum VfioGroupStatus : uint
{
    /// <summary>No driver of the host uses a device of the group.</summary>
    Viable = 1,

    /// <summary>The group is in a container.</summary>
    ContainerSet = 2,
}

/// <summary>The ioctls of linux/vfio.h that a migration needs. Results below zero are returned with errno, not thrown.</summary>
internal static partial class VfioIoctl
{
    internal const uint FeatureGet = 1 << 16;
    internal const uint FeatureSet = 1 << 17;
    internal const uint FeatureMigration = 1;
    internal const uint FeatureDeviceState = 2;
    internal const uint FeatureDataSize = 9;

    internal const int Type1Iommu = 1;
    internal const int Type1Version2Iommu = 3;
    internal const int NoIommu = 8;

    private const nuint Base = ';' << 8;
    private const nuint ApiVersionRequest = Base + 100;
    private const nuint CheckExtensionRequest = Base + 101;
    private const nuint SetIommuRequest = Base + 102;
    private const nuint GroupStatusRequest = Base + 103;
    private const nuint SetContainerRequest = Base + 104;
    private const nuint GetDeviceFdRequest = Base + 106;
    private const nuint RegionInfoRequest = Base + 108;
    private const nuint ResetRequest = Base + 111;
    private const nuint FeatureRequest = Base + 117;
    private const nuint BindRequest = Base + 118;
    private const nuint PreCopyInfoRequest = Base + 121;
    private const uint PciConfigRegion = 7;

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

    [StructLayout(LayoutKind.Sequential)]
    private struct Status
    {
        public uint Size;
        public uint Flags;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct RegionInfo
    {
        public uint Size;
        public uint Flags;
        public uint Index;
        public uint CapabilityOffset;
        public ulong RegionSize;
        public ulong Offset;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct PreCopy
    {
        public uint Size;
        public uint Flags;
        public ulong InitialBytes;
        public ulong DirtyBytes;
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

    internal static unsafe int GetApiVersion(SafeHandle container)
    {
        using var fd = new BorrowedFd(container);
        return IoctlNative(fd.Number, ApiVersionRequest, null);
    }

    /// <summary>VFIO_CHECK_EXTENSION, whose argument is the number itself.</summary>
    internal static unsafe int CheckExtension(SafeHandle container, int extension)
    {
        using var fd = new BorrowedFd(container);
        return IoctlNative(fd.Number, CheckExtensionRequest, (void*)extension);
    }

    /// <summary>VFIO_SET_IOMMU, whose argument is the number itself.</summary>
    internal static unsafe int SetIommu(SafeHandle container, int kind)
    {
        using var fd = new BorrowedFd(container);
        return IoctlNative(fd.Number, SetIommuRequest, (void*)kind);
    }

    internal static unsafe int GetGroupStatus(SafeHandle group, out VfioGroupStatus flags)
    {
        using var fd = new BorrowedFd(group);
        var status = new Status { Size = (uint)sizeof(Status) };
        int result = IoctlNative(fd.Number, GroupStatusRequest, &status);
        flags = (VfioGroupStatus)status.Flags;
        return result;
    }

    internal static unsafe int SetContainer(SafeHandle group, SafeHandle container)
    {
        using var fd = new BorrowedFd(group);
        using var containerFd = new BorrowedFd(container);
        int number = containerFd.Number;
        return IoctlNative(fd.Number, SetContainerRequest, &number);
    }

    /// <summary>VFIO_GROUP_GET_DEVICE_FD. The kernel makes the descriptor close-on-exec.</summary>
    /// <returns>The descriptor, which the caller owns, or -1.</returns>
    internal static unsafe int GetDeviceFd(SafeHandle group, string name)
    {
        using var fd = new BorrowedFd(group);
        byte[] text = [.. System.Text.Encoding.UTF8.GetBytes(name), 0];
        fixed (byte* p = text)
        {
            return IoctlNative(fd.Number, GetDeviceFdRequest, p);
        }
    }

    /// <summary>VFIO_DEVICE_GET_REGION_INFO of the PCI configuration space.</summary>
    internal static unsafe int GetConfigRegion(SafeHandle device, out ulong size, out ulong offset)
    {
        using var fd = new BorrowedFd(device);
        var info = new RegionInfo { Size = (uint)sizeof(RegionInfo), Index = PciConfigRegion };
        int result = IoctlNative(fd.Number, RegionInfoRequest, &info);
        (size, offset) = (info.RegionSize, info.Offset);
        return result;
    }

    /// <summary>VFIO_MIG_GET_PRECOPY_INFO, which goes to the data descriptor and not to the device.</summary>
    internal static unsafe int GetPreCopyInfo(SafeHandle data, out ulong initialBytes, out ulong dirtyBytes)
    {
        using var fd = new BorrowedFd(data);
        var info = new PreCopy { Size = (uint)sizeof(PreCopy) };
        int result = IoctlNative(fd.Number, PreCopyInfoRequest, &info);
        (initialBytes, dirtyBytes) = (info.InitialBytes, info.DirtyBytes);
        return result;
    }
}
