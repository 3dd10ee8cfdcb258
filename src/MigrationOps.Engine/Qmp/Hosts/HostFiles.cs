using System.Globalization;
using System.Net.NetworkInformation;
using System.Net.Sockets;

namespace MigrationOps.Engine.Qmp;

/// <summary>What /proc and /sys say of this host.</summary>
internal static class HostFiles
{
    private static readonly string[] KvmModules = ["kvm_intel", "kvm_amd", "kvm", "kvm_hv"];

    private const string Nodes = "/sys/devices/system/node";

    /// <summary>A value of /proc/meminfo in bytes; 0 if it is not there.</summary>
    internal static long Memory(string name) => MemoryOf(Lines("/proc/meminfo"), name);

    internal static string Kernel() => Text("/proc/sys/kernel/osrelease") ?? "unknown";

    internal static double[] LoadAverage() => [.. (Text("/proc/loadavg") ?? "").Split(' ').Take(3)
        .Select(text => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double load) ? load : 0)];

    /// <summary>The first value that one of the names has in /proc/cpuinfo, which is not the same on every architecture.</summary>
    internal static string Cpu(params string[] names)
    {
        foreach (string line in Lines("/proc/cpuinfo"))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon > 0 && names.Contains(line[..colon].Trim()))
            {
                return line[(colon + 1)..].Trim();
            }
        }

        return "unknown";
    }

    internal static bool NestedKvm() => KvmModules
        .Any(module => Text($"/sys/module/{module}/parameters/nested") is "Y" or "1");

    /// <summary>The soft limit of a line of /proc/self/limits; null without a limit.</summary>
    internal static long? Limit(string name)
    {
        string? line = Lines("/proc/self/limits").FirstOrDefault(text => text.StartsWith(name, StringComparison.Ordinal));
        return line is not null && line[name.Length..].Split(' ', StringSplitOptions.RemoveEmptyEntries) is [var soft, ..]
            && long.TryParse(soft, NumberStyles.None, CultureInfo.InvariantCulture, out long value) ? value : null;
    }

    internal static QemuHostNode[] NumaNodes() => [.. NodeNumbers().Select(node =>
    {
        string[] lines = [.. Lines($"{Nodes}/node{node}/meminfo").Select(line => line[(line.IndexOf(' ', "Node ".Length) + 1)..].TrimStart())];
        return new QemuHostNode
        {
            Node = node,
            MemoryBytes = MemoryOf(lines, "MemTotal"),
            FreeBytes = MemoryOf(lines, "MemFree"),
            Cpus = Text($"{Nodes}/node{node}/cpulist") ?? "",
        };
    })];

    internal static QemuHostHugePages[] HugePages() => [.. NodeNumbers().SelectMany(node => Folders($"{Nodes}/node{node}/hugepages")
        .Select(folder => (Folder: folder, Size: Path.GetFileName(folder).Replace("hugepages-", "", StringComparison.Ordinal).Replace("kB", "", StringComparison.Ordinal)))
        .Select(entry => new QemuHostHugePages
        {
            Node = node,
            PageBytes = Number(entry.Size) * 1024,
            Total = Number(Text(entry.Folder + "/nr_hugepages")),
            Free = Number(Text(entry.Folder + "/free_hugepages")),
        }))
        .OrderBy(pages => pages.Node).ThenBy(pages => pages.PageBytes)];

    internal static QemuHostLink[] Links() => [.. NetworkInterface.GetAllNetworkInterfaces()
        .Where(link => link.NetworkInterfaceType != NetworkInterfaceType.Loopback)
        .Select(link => new QemuHostLink
        {
            Name = link.Name,
            IsUp = link.OperationalStatus == OperationalStatus.Up,
            Mtu = (int)Number(Text($"/sys/class/net/{link.Name}/mtu")),
            BitsPerSecond = Number(Text($"/sys/class/net/{link.Name}/speed")) is > 0 and var megabits ? megabits * 1_000_000 : null,
            IsBridge = Directory.Exists($"/sys/class/net/{link.Name}/bridge"),
            Addresses = [.. link.GetIPProperties().UnicastAddresses.Select(address => address.Address)
                .Where(address => address.AddressFamily is AddressFamily.InterNetwork or AddressFamily.InterNetworkV6).Select(address => address.ToString())],
        })
        .OrderBy(link => link.Name, StringComparer.Ordinal)];

    internal static bool HasLibvirt() => File.Exists("/run/libvirt/virtqemud-sock") || File.Exists("/run/libvirt/libvirt-sock");

    internal static bool HasProxmox() => Directory.Exists("/etc/pve") && Directory.Exists("/var/run/qemu-server");

    private static IEnumerable<int> NodeNumbers() => Folders(Nodes).Select(Path.GetFileName)
        .Where(name => name!.StartsWith("node", StringComparison.Ordinal) && int.TryParse(name[4..], System.Globalization.CultureInfo.InvariantCulture, out _))
        .Select(name => int.Parse(name![4..], CultureInfo.InvariantCulture)).Order();

    // A line such as "MemFree:   123 kB".
    private static long MemoryOf(IEnumerable<string> lines, string name)
        => lines.FirstOrDefault(line => line.StartsWith(name + ":", StringComparison.Ordinal))?
            .Split(' ', StringSplitOptions.RemoveEmptyEntries) is [_, var kilobytes, ..] ? Number(kilobytes) * 1024 : 0;

    private static long Number(string? text) => long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long value) ? value : 0;

    private static string? Text(string path)
    {
        try
        {
            return File.ReadAllText(path).Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Not every kernel has every file, and a link that is down has no speed.
            return null;
        }
    }

    private static string[] Lines(string path) => Text(path)?.Split('\n') ?? [];

    private static string[] Folders(string path) => Directory.Exists(path) ? Directory.GetDirectories(path) : [];
}
