using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>Opens devices through the kernel's two interfaces.</summary>
/// <remarks>
/// <code>
/// character device: open vfioN, open /dev/iommu, VFIO_DEVICE_BIND_IOMMUFD
/// group:            open N, VFIO_GROUP_GET_STATUS (viable, no container), open /dev/vfio/vfio, VFIO_GROUP_SET_CONTAINER,
///                   VFIO_SET_IOMMU (type1v2, type1 or no-IOMMU), VFIO_GROUP_GET_DEVICE_FD
/// </code>
/// </remarks>
internal static class VfioOpener
{
    private const int ApiVersion = 0;

    internal static IVfioDriver Open(VfioTarget target, string containerNode, string iommuNode)
        => target.Interface == VfioInterface.CharacterDevice ? OpenCharacterDevice(target, iommuNode) : OpenInGroup(target, containerNode);

    private static KernelVfioDriver OpenCharacterDevice(VfioTarget target, string iommuNode)
    {
        var device = OpenNode(target, target.Node);
        SafeFileHandle? iommu = null;
        try
        {
            iommu = OpenNode(target, iommuNode);
            if (VfioIoctl.BindIommu(device, iommu) >= 0)
            {
                return new KernelVfioDriver(target.Path, device, iommu);
            }

            // Anyone may open the node. The second one that binds it gets EINVAL, and one whose group is in a container EBUSY.
            int error = NativeError.Last;
            throw Refused(target, $"VFIO_DEVICE_BIND_IOMMUFD failed: {NativeError.Describe(error)}",
                error == NativeError.EINVAL ? NativeError.EBUSY : error);
        }
        catch
        {
            device.Dispose();
            iommu?.Dispose();
            throw;
        }
    }

    private static KernelVfioDriver OpenInGroup(VfioTarget target, string containerNode)
    {
        var group = OpenNode(target, target.Node);
        SafeFileHandle? container = null;
        try
        {
            RequireFree(target, group);
            container = OpenNode(target, containerNode);
            Attach(target, group, container);
            int fd = VfioIoctl.GetDeviceFd(group, target.Device.Name);
            return fd >= 0
                ? new KernelVfioDriver(target.Path, new SafeFileHandle(fd, true), group, container)
                : throw Refused(target, $"VFIO_GROUP_GET_DEVICE_FD failed: {NativeError.Describe(NativeError.Last)}", NativeError.Last);
        }
        catch
        {
            group.Dispose();
            container?.Dispose();
            throw;
        }
    }

    private static void RequireFree(VfioTarget target, SafeFileHandle group)
    {
        if (VfioIoctl.GetGroupStatus(group, out var status) < 0)
        {
            throw Refused(target, $"VFIO_GROUP_GET_STATUS failed: {NativeError.Describe(NativeError.Last)}", NativeError.Last);
        }

        if (!status.HasFlag(VfioGroupStatus.Viable))
        {
            throw new VfioException(VfioError.GroupNotViable,
                $"'{target.Path}' cannot be used: a driver of the host uses a device of its group {target.Device.Group}.")
            { Target = target.Path };
        }

        if (status.HasFlag(VfioGroupStatus.ContainerSet))
        {
            throw new VfioException(VfioError.DeviceBusy, $"'{target.Path}' cannot be used: its group {target.Device.Group} is in a container already.")
            { Target = target.Path };
        }
    }

    private static void Attach(VfioTarget target, SafeFileHandle group, SafeFileHandle container)
    {
        int version = VfioIoctl.GetApiVersion(container);
        if (version != ApiVersion)
        {
            throw new VfioException(VfioError.IommuNotSupported, $"The VFIO of this host has the version {version}, and {ApiVersion} is known.") { Target = target.Path };
        }

        // A container says which IOMMUs it knows for a group only where that kind of group is in it.
        if (VfioIoctl.SetContainer(group, container) < 0)
        {
            throw Refused(target, $"VFIO_GROUP_SET_CONTAINER failed: {NativeError.Describe(NativeError.Last)}", NativeError.Last);
        }

        int[] kinds = target.Interface == VfioInterface.NoIommuGroup
            ? [VfioIoctl.NoIommu] : [VfioIoctl.Type1Version2Iommu, VfioIoctl.Type1Iommu];
        int kind = Array.Find(kinds, k => VfioIoctl.CheckExtension(container, k) > 0);
        if (kind == 0)
        {
            throw new VfioException(VfioError.IommuNotSupported,
                $"'{target.Path}' cannot be used: the container has no {(target.Interface == VfioInterface.NoIommuGroup ? "no-IOMMU" : "type1 IOMMU")}.")
            { Target = target.Path };
        }

        if (VfioIoctl.SetIommu(container, kind) < 0)
        {
            throw Refused(target, $"VFIO_SET_IOMMU failed: {NativeError.Describe(NativeError.Last)}", NativeError.Last);
        }
    }

    private static SafeFileHandle OpenNode(VfioTarget target, string node)
    {
        if (!OpenFile.TryOpen(node, out var handle, out int error))
        {
            throw Refused(target, $"{node} cannot be opened: {NativeError.Describe(error)}", error);
        }

        return handle!;
    }

    private static VfioException Refused(VfioTarget target, string why, int error) => new(error switch
    {
        NativeError.EBUSY => VfioError.DeviceBusy,
        NativeError.EPERM or NativeError.EACCES => VfioError.AccessDenied,
        NativeError.ENOENT or NativeError.ENODEV or NativeError.ENXIO => VfioError.DeviceNotFound,
        _ => VfioError.DeviceNotOpened,
    }, $"'{target.Path}' cannot be used: {why}.")
    { Target = target.Path };
}
