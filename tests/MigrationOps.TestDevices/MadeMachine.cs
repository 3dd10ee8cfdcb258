using System.Globalization;
using MigrationOps.Engine.Vfio;

namespace MigrationOps.TestDevices;

/// <summary>
/// A machine with VFIO devices: the folders of sysfs, /dev and /proc that a host with them has, made below a folder, and devices that keep
/// the kernel's rules behind them.
/// </summary>
public sealed class MadeMachine : IDisposable
{
    private readonly Dictionary<string, FakeVfioDriver> _devices = [];
    private readonly HashSet<string> _denied = [];
    private readonly string _root;
    private readonly VfioHost _before = VfioHost.ThisMachine;
    private int _count;

    /// <summary>A machine with a container node, and with /dev/iommu if it has iommufd.</summary>
    public MadeMachine(string root, bool iommufd = true)
    {
        _root = root;
        Touch("dev/vfio/vfio");
        Directory.CreateDirectory(At("proc"));
        if (iommufd)
        {
            Touch("dev/iommu");
            Directory.CreateDirectory(At("dev/vfio/devices"));
        }

        Host = new VfioHost(root, target =>
        {
            Opened++;
            return _devices[target.Device.Name];
        }, node => !_denied.Contains(node));
    }

    /// <summary>How many times a device was opened.</summary>
    public int Opened { get; private set; }

    internal VfioHost Host { get; }

    /// <summary>From now on the commands work on this machine.</summary>
    public void Install() => VfioHost.ThisMachine = Host;

    /// <summary>The commands work on the machine that they worked on before; this one's folder is gone.</summary>
    public void Dispose()
    {
        VfioHost.ThisMachine = _before;
        foreach (var device in _devices.Values)
        {
            device.Dispose();
        }

        // Links are deleted and not followed.
        Directory.Delete(_root, recursive: true);
    }

    /// <summary>A PCI device that holds a state.</summary>
    /// <param name="address">PCI address.</param>
    /// <param name="state">What it holds; null for a device that cannot migrate.</param>
    /// <param name="driver">The driver that it is bound to.</param>
    /// <param name="group">Its IOMMU group.</param>
    /// <param name="node">True if it has a node of its own.</param>
    public void AddPci(string address, byte[]? state, string driver = "mlx5-vfio-pci", int group = 11, bool node = true)
        => Add("pci", $"sys/devices/pci0000:00/{address}", state, driver, group, node, isVfio: true);

    /// <summary>A PCI device of the host in a group.</summary>
    public void AddHostDevice(string address, string driver, int group)
        => Add("pci", $"sys/devices/pci0000:00/{address}", null, driver, group, node: false, isVfio: false);

    /// <summary>A mediated device that holds a state.</summary>
    public void AddMediated(string uuid, byte[] state, int group, bool node = true)
    {
        string folder = $"sys/devices/virtual/mtty/mtty/{uuid}";
        Add("mdev", folder, state, "mtty", group, node, isVfio: true);
        Link($"{folder}/mdev_type", "sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-1");
    }

    /// <summary>A group has no IOMMU.</summary>
    public void MakeNoIommu(int group)
    {
        Directory.CreateDirectory(At($"sys/class/vfio/noiommu-{group}"));
        File.Move(At($"dev/vfio/{group}"), At($"dev/vfio/noiommu-{group}"));
    }

    /// <summary>A process holds a node.</summary>
    public void Hold(int process, string name, string node)
    {
        Directory.CreateDirectory(At($"proc/{process}/fd"));
        File.WriteAllText(At($"proc/{process}/comm"), name + "\n");
        Link($"proc/{process}/fd/7", node);
    }

    /// <summary>This user may not open a node.</summary>
    public void Deny(string node) => _denied.Add(At(node));

    /// <summary>Takes a node away, as a host without it has it.</summary>
    public void Remove(string node) => File.Delete(At(node));

    /// <summary>A path below the machine's root, such as <c>dev/vfio/11</c>.</summary>
    public string At(string path) => Path.Combine(_root, path);

    /// <summary>The state that a device is in, by the kernel's name.</summary>
    public string GetState(string name) => VfioDevice.Name(_devices[name].Now);

    /// <summary>Puts a device into a state, as a process that ended would have left it.</summary>
    public void SetState(string name, string state) => _devices[name].Now = Enum.GetValues<VfioState>().Single(s => VfioDevice.Name(s) == state);

    /// <summary>What a device holds.</summary>
    public byte[] GetContent(string name) => _devices[name].State;

    /// <summary>How many times a device was reset.</summary>
    public int GetResets(string name) => _devices[name].Resets;

    internal FakeVfioDriver this[string name] => _devices[name];

    private void Add(string bus, string folder, byte[]? state, string driver, int group, bool node, bool isVfio)
    {
        string name = Path.GetFileName(folder), number = group.ToString(CultureInfo.InvariantCulture);
        Directory.CreateDirectory(At(folder));
        File.WriteAllText(At($"{folder}/vendor"), "0x15b3\n");
        File.WriteAllText(At($"{folder}/device"), "0x101e\n");
        Link($"{folder}/driver", $"sys/bus/{bus}/drivers/{driver}");
        Link($"{folder}/subsystem", $"sys/bus/{bus}");
        Link($"{folder}/iommu_group", $"sys/kernel/iommu_groups/{number}");
        Link($"sys/bus/{bus}/devices/{name}", folder);
        Link($"sys/kernel/iommu_groups/{number}/devices/{name}", folder);
        if (!isVfio)
        {
            return;
        }

        string vfio = $"vfio{_count++}";
        Link($"sys/class/vfio-dev/{vfio}", $"{folder}/vfio-dev/{vfio}");
        Directory.CreateDirectory(At($"sys/class/vfio/{number}"));
        Touch($"dev/vfio/{number}");
        if (node)
        {
            Touch($"dev/vfio/devices/{vfio}");
        }

        _devices[name] = new FakeVfioDriver(state is null ? 0 : VfioMigrationFlags.StopCopy | VfioMigrationFlags.P2P, state)
        {
            Path = name,
            ConfigSpace = NewConfigSpace(),
        };
    }

    // A device of one memory register and MSI-X with three vectors.
    private static byte[] NewConfigSpace()
    {
        byte[] space = new byte[256];
        (space[0], space[1], space[2], space[3]) = (0xb3, 0x15, 0x1e, 0x10);
        (space[4], space[6], space[0x0b]) = (0x06, 0x10, 0x02);
        (space[0x10], space[0x13]) = (0x0c, 0xfe);
        (space[0x34], space[0x40], space[0x42], space[0x43]) = (0x40, 0x11, 0x02, 0x80);
        return space;
    }

    private void Touch(string path)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(At(path))!);
        File.WriteAllBytes(At(path), []);
    }

    private void Link(string path, string target)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(At(path))!);
        if (!target.StartsWith("dev/", StringComparison.Ordinal))
        {
            Directory.CreateDirectory(At(target));
        }

        File.CreateSymbolicLink(At(path), At(target));
    }
}
