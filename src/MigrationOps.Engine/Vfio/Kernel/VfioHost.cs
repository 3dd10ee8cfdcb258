using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Vfio;

/// <summary>The VFIO devices of a machine: finds them in sysfs, says why one cannot be used, and opens one.</summary>
/// <remarks>
/// Looking opens no device: opening an idle PCI device resets it. Sysfs has <c>class/vfio-dev</c> since Linux 6.1; before that the
/// members of the groups in <c>class/vfio</c> are taken that a vfio driver is bound to.
/// </remarks>
internal sealed class VfioHost
{
    private readonly string _root;
    private readonly Func<VfioTarget, IVfioDriver> _open;
    private readonly Func<string, bool> _mayOpen;

    /// <summary>A machine.</summary>
    /// <param name="root">Where its <c>/sys</c>, <c>/dev</c> and <c>/proc</c> are.</param>
    /// <param name="open">Opens a device; null for the kernel's ioctls.</param>
    /// <param name="mayOpen">True if this user may read and write a node; null to ask the kernel.</param>
    internal VfioHost(string root = "/", Func<VfioTarget, IVfioDriver>? open = null, Func<string, bool>? mayOpen = null)
    {
        _mayOpen = mayOpen ?? PathAccess.CanReadAndWrite;
        _root = root;
        _open = open ?? (target => VfioOpener.Open(target, ContainerNode, IommuNode));
    }

    /// <summary>The machine that the commands work on. A test puts a made one here.</summary>
    internal static VfioHost ThisMachine { get; set; } = new();

    internal string ContainerNode => At("dev/vfio/vfio");

    internal string IommuNode => At("dev/iommu");

    private string NodeFolder => At("dev/vfio/devices");

    private string GroupFolder => At("dev/vfio");

    /// <summary>All VFIO devices, by name.</summary>
    internal IReadOnlyList<VfioTarget> FindAll() => [.. Scan().OrderBy(d => d.Name, StringComparer.Ordinal).Select(d => new VfioTarget(d, Preferred(d)))];

    /// <summary>
    /// The device that a user names: a PCI address, the UUID of a mediated device, its folder in sysfs, its own node or that of its
    /// group. A node says which interface is to be used; else the device's own node goes before its group.
    /// </summary>
    /// <exception cref="VfioException"><see cref="VfioError.DeviceNotFound"/>, <see cref="VfioError.NotBound"/>, <see cref="VfioError.SeveralDevices"/>.</exception>
    internal VfioTarget Find(string name)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        if (Path.GetDirectoryName(name) == NodeFolder)
        {
            return FindByNode(name);
        }

        if (Path.GetDirectoryName(name) == GroupFolder)
        {
            return FindByGroup(name);
        }

        string last = Path.GetFileName(Path.TrimEndingDirectorySeparator(name));
        var device = Scan().FirstOrDefault(d => d.Name.Equals(last, StringComparison.OrdinalIgnoreCase));
        return device is not null ? new VfioTarget(device, Preferred(device)) : throw Unbound(name, last);
    }

    /// <summary>Opens a device.</summary>
    /// <exception cref="VfioException">Why it cannot be opened, by name.</exception>
    internal IVfioDriver Open(VfioTarget target)
    {
        try
        {
            return FindObstacle(target, holders: null) is { } obstacle ? throw obstacle : _open(target);
        }
        catch (VfioException e) when (e.Reason == VfioError.DeviceBusy && e.InnerException is not VfioException)
        {
            // The kernel says that it is held; who it is can be seen in /proc alone.
            string[] holders = [.. HoldersOf(target.Device, VfioHolders.Find(At("proc")))];
            throw holders.Length == 0 ? e : Busy(target, holders, e);
        }
    }

    /// <summary>Opens what a user names.</summary>
    internal IVfioDriver Open(string name) => Open(Find(name));

    /// <summary>Describes a device without opening it.</summary>
    /// <param name="target">The device.</param>
    /// <param name="holders">Who holds which node.</param>
    internal VfioDeviceInfo Describe(VfioTarget target, ILookup<string, string> holders)
    {
        var device = target.Device;
        var obstacle = FindObstacle(target, holders) ?? NoMigration(target);
        return new VfioDeviceInfo
        {
            Name = device.Name,
            Path = target.Node,
            Interface = target.Interface,
            Usable = obstacle is null,
            Reason = obstacle?.ErrorId ?? "",
            Message = obstacle is null ? "" : $"{obstacle.Message} {obstacle.RecommendedAction}",
            PciAddress = device.Bus == "pci" ? device.Name : null,
            PciId = device.PciId,
            MdevUuid = device.Bus == "mdev" ? device.Name : null,
            MdevType = device.MdevType,
            Driver = device.Driver,
            Group = device.Group,
            Holders = [.. HoldersOf(device, holders)],
            Migratable = obstacle?.Reason == VfioError.NotMigratable ? false : null,
        };
    }

    /// <summary>Who holds which node of VFIO, as far as this user can see other users' processes.</summary>
    internal ILookup<string, string> FindHolders() => VfioHolders.Find(At("proc"));

    private VfioException? FindObstacle(VfioTarget target, ILookup<string, string>? holders)
    {
        var device = target.Device;
        if (target.Interface == VfioInterface.None)
        {
            return device.Node is not null
                ? Fail(VfioError.NoIommufd, $"'{device.Name}' has {device.Node}, this host has no {IommuNode}, and the device's group has no node")
                : Fail(VfioError.NoInterface, $"'{device.Name}' is bound to {device.Driver}, and neither it nor its group {device.Group} has a node below {GroupFolder}");
        }

        string other = target.Interface == VfioInterface.CharacterDevice ? IommuNode : ContainerNode;
        if (!File.Exists(other))
        {
            return target.Interface == VfioInterface.CharacterDevice
                ? Fail(VfioError.NoIommufd, $"'{target.Path}' has its own node, and this host has no {other}")
                : Fail(VfioError.NoInterface, $"'{target.Path}' has {target.Node}, and this host has no {other}");
        }

        if (new[] { target.Node, other }.FirstOrDefault(n => !_mayOpen(n)) is { } closed)
        {
            return Fail(VfioError.AccessDenied, $"'{target.Path}' cannot be used: this user may not open {closed} for reading and writing");
        }

        if (holders is not null && HoldersOf(device, holders).ToArray() is { Length: > 0 } held)
        {
            return Busy(target, held, null);
        }

        return target.Interface == VfioInterface.Group && device.Hindrances.Count > 0
            ? Fail(VfioError.GroupNotViable, $"'{target.Path}' cannot be used: drivers of the host use {string.Join(", ", device.Hindrances)} of its group {device.Group}")
            : null;

        VfioException Fail(VfioError reason, string message) => new(reason, message + ".") { Target = target.Path };
    }

    // The driver for any PCI device moves no state; whether another one does is known once the device is open.
    private static VfioException? NoMigration(VfioTarget target) => target.Device.Driver == "vfio-pci"
        ? new(VfioError.NotMigratable, $"'{target.Path}' cannot migrate: its driver vfio-pci does not offer it.") { Target = target.Path }
        : null;

    private static VfioException Busy(VfioTarget target, string[] holders, Exception? inner) => new(VfioError.DeviceBusy,
        $"'{target.Path}' cannot be used: held by {string.Join(", ", holders)}.", inner)
    { Target = target.Path };

    private static IEnumerable<string> HoldersOf(VfioHostDevice device, ILookup<string, string> holders)
        => new[] { device.Node, device.GroupNode }.OfType<string>().SelectMany(n => holders[n]).Distinct();

    private VfioInterface Preferred(VfioHostDevice device)
        => device.Node is not null && (device.GroupNode is null ? File.Exists(IommuNode) : File.Exists(IommuNode) && _mayOpen(device.Node)
            && _mayOpen(IommuNode)) ? VfioInterface.CharacterDevice
            : device.GroupNode is null ? VfioInterface.None
            : device.IsNoIommu ? VfioInterface.NoIommuGroup : VfioInterface.Group;

    private VfioTarget FindByNode(string node)
    {
        var device = Scan().FirstOrDefault(d => d.Node == node);
        if (device is null && File.Exists(node))
        {
            // A container may have the node without sysfs.
            device = new VfioHostDevice { Name = Path.GetFileName(node), Node = node };
        }

        return device is not null ? new VfioTarget(device, VfioInterface.CharacterDevice)
            : throw NotFound(node, Directory.Exists(NodeFolder) ? "no device has this node"
                : $"this host has no {NodeFolder}: its kernel has no character devices of VFIO, only groups");
    }

    private VfioTarget FindByGroup(string node)
    {
        var devices = Scan().Where(d => d.GroupNode == node).OrderBy(d => d.Name, StringComparer.Ordinal).ToList();
        return devices.Count switch
        {
            1 => new VfioTarget(devices[0], devices[0].IsNoIommu ? VfioInterface.NoIommuGroup : VfioInterface.Group),
            0 => throw NotFound(node, "no device of VFIO is in a group of this node"),
            _ => throw new VfioException(VfioError.SeveralDevices, $"'{node}' is the group of {string.Join(", ", devices.Select(d => d.Name))}.") { Target = node },
        };
    }

    private VfioException Unbound(string name, string last)
    {
        string[] places = [At($"sys/bus/pci/devices/{last}"), At($"sys/bus/mdev/devices/{last}")];
        if (places.FirstOrDefault(Directory.Exists) is not { } folder)
        {
            return NotFound(name, "no device of this host has this address, UUID or node");
        }

        string driver = Sysfs.TryGetLinkName($"{folder}/driver") is { } bound ? $"bound to the driver {bound}" : "bound to no driver";
        return new VfioException(VfioError.NotBound, $"'{name}' is not a VFIO device: it is {driver}.") { Target = name };
    }

    private static VfioException NotFound(string name, string why) => new(VfioError.DeviceNotFound, $"'{name}' is not there: {why}.") { Target = name };

    private IEnumerable<VfioHostDevice> Scan()
    {
        string classFolder = At("sys/class/vfio-dev");
        if (Directory.Exists(classFolder))
        {
            return Directory.EnumerateFileSystemEntries(classFolder).Select(Sysfs.TryResolve).OfType<string>()
                .Select(vfio => Read(Path.GetDirectoryName(Path.GetDirectoryName(vfio))!, Path.GetFileName(vfio)));
        }

        string groups = At("sys/class/vfio");
        return !Directory.Exists(groups) ? [] : Directory.EnumerateFileSystemEntries(groups)
            .SelectMany(g => Members(GroupNumber(Path.GetFileName(g)))).Where(IsVfioDriver).Select(folder => Read(folder, null));
    }

    private VfioHostDevice Read(string folder, string? vfioName)
    {
        string? group = Sysfs.TryGetLinkName($"{folder}/iommu_group");
        string bus = Sysfs.TryGetLinkName($"{folder}/subsystem") ?? "";
        string noIommu = At($"dev/vfio/noiommu-{group}"), plain = At($"dev/vfio/{group}"), node = At($"dev/vfio/devices/{vfioName}");
        bool isNoIommu = group is not null && (File.Exists(noIommu) || Sysfs.Exists(At($"sys/class/vfio/noiommu-{group}")));
        string groupNode = isNoIommu ? noIommu : plain;
        return new VfioHostDevice
        {
            Name = Path.GetFileName(folder),
            Bus = bus,
            Driver = Sysfs.TryGetLinkName($"{folder}/driver"),
            PciId = bus == "pci" ? Sysfs.TryReadPciId(folder) : null,
            MdevType = Sysfs.TryGetLinkName($"{folder}/mdev_type"),
            Group = group,
            GroupNode = group is not null && File.Exists(groupNode) ? groupNode : null,
            IsNoIommu = isNoIommu,
            Node = vfioName is not null && File.Exists(node) ? node : null,
            Hindrances = group is null || bus == "mdev" ? [] : [.. Members(group)
                .Where(m => Path.GetFileName(m) != Path.GetFileName(folder) && IsHostDriver(m))
                .Select(m => $"{Path.GetFileName(m)} ({Sysfs.TryGetLinkName($"{m}/driver")})")],
        };
    }

    private IEnumerable<string> Members(string group)
    {
        string folder = At($"sys/kernel/iommu_groups/{group}/devices");
        return Directory.Exists(folder) ? Directory.EnumerateFileSystemEntries(folder).Select(Sysfs.TryResolve).OfType<string>() : [];
    }

    private static bool IsVfioDriver(string device) => Directory.Exists($"{device}/vfio-dev") || Sysfs.TryGetLinkName($"{device}/subsystem") == "mdev"
        || Sysfs.TryGetLinkName($"{device}/driver")?.Contains("vfio", StringComparison.Ordinal) == true;

    // The kernel lets these be bound beside a user's device: they do no DMA of their own.
    private static bool IsHostDriver(string device) => Sysfs.TryGetLinkName($"{device}/driver") is { } driver
        && driver is not ("pcieport" or "pci-stub") && !IsVfioDriver(device);

    private static string GroupNumber(string node) => node.StartsWith("noiommu-", StringComparison.Ordinal) ? node["noiommu-".Length..] : node;

    private string At(string path) => Path.Combine(_root, path);
}
