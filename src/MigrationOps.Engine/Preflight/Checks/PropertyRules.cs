using System.Text.Json;

namespace MigrationOps.Engine.Preflight;

/// <summary>
/// What a device's property does to a migration when it differs. The fatal ones were found by migrating every property of the usual
/// devices between real QEMUs (tests/Truth): they change what lies in PCI configuration space, the number of ports, or what the state has.
/// </summary>
internal static class PropertyRules
{
    // What QEMU made of the command line, the host's side of a device, and what the guest itself changes.
    private static readonly HashSet<string> Ignored =
    [
        "parent_bus", "hotplugged", "hotpluggable", "realized", "type", "addr", "id", "busnr", "guest-stats", "guest-stats-polling-interval", "date", "link", "virtio-bus", "acpi-pm", "legacy-addr",
        "below-4g-mem-size", "above-4g-mem-size", "pci-hole-start", "pci-hole-end", "pci-hole64-start", "pci-hole64-end", "MCFG", "gsi-state",
    ];

    private static readonly HashSet<string> OfHost =
    [
        "netdev", "chardev", "drive", "iothread", "iothread-vq-mapping", "audiodev", "rng", "memdev", "cryptodev", "display", "head", "bootindex", "backend", "pidfile", "logfile", "fd", "vhostfd", "host",
        "share-rw", "rerror", "werror", "backend_defaults", "account-invalid", "account-failed", "stats-intervals", "discard_granularity", "write-cache", "host_mtu", "mac", "serial", "x-txtimer", "tx", "x-txburst", "romfile", "rombar", "romsize",
    ];

    private static readonly string[] OfVirtioPci = ["disable-legacy", "disable-modern", "modern-pio-notify", "page-per-vq", "vectors", "class"];

    private static readonly string[] OfPorts =
    [
        "hotplug", "port", "slot", "power_controller_present", "x-do-not-expose-native-hotplug-cap", "aer_log_max", "bus-reserve", "io-reserve", "mem-reserve", "pref32-reserve", "pref64-reserve", "disable-acs",
        "x-migrate-msix", "x-speed", "x-width", "shpc", "msi",
    ];

    private static readonly string[] Bridges = ["pcie-root-port", "ioh3420", "x3130-upstream", "xio3130-downstream", "pci-bridge", "pcie-pci-bridge"];

    private static readonly Dictionary<string, string[]> Fatal = new(StringComparer.Ordinal)
    {
        ["VGA"] = ["mmio", "qemu-extended-regs"],
        ["secondary-vga"] = ["mmio", "qemu-extended-regs"],
        ["intel-hda"] = ["old_msi_addr"],
        ["ich9-intel-hda"] = ["old_msi_addr"],
        ["pvscsi"] = ["x-disable-pcie", "x-old-pci-configuration"],
        ["vmxnet3"] = ["x-disable-pcie", "x-old-msi-offsets"],
        ["e1000e"] = ["migrate-timadj", "subsys", "subsys_ven", "x-pcie-ext-tag"],
        ["hpet"] = ["timers"],
        ["igb"] = ["x-pcie-flr-init"],
    };

    /// <summary>What the difference means; null if it means nothing.</summary>
    internal static QemuCheckStatus? StatusOf(QomObject source, QomObject target, string property)
    {
        string type = source.Type;
        string here = Text(source[property]), there = Text(target[property]);
        if (here == there || Ignored.Contains(property))
        {
            return null;
        }

        if (IsFatal(source, target, type, property, here, there))
        {
            return QemuCheckStatus.Blocker;
        }

        // Which properties there are depends on the version, and so does which are asked for.
        return source[property] is null || target[property] is null ? null : OfHost.Contains(property) ? QemuCheckStatus.Info : QemuCheckStatus.Warning;
    }

    /// <summary>
    /// True if the property is worth a question of its own. Flags of virtio devices are features, of which one question has all; names with x-
    /// come from the machine type, which is the same.
    /// </summary>
    internal static bool IsWorthAsking(string type, string property, string kind)
        => CanBeFatal(type, property) || !(property.StartsWith("x-", StringComparison.Ordinal) || Ignored.Contains(property) || (kind == "bool" && IsVirtioPci(type)));

    private static bool CanBeFatal(string type, string property)
        => property == "multifunction" || (Fatal.TryGetValue(type, out string[]? fatal) && fatal.Contains(property)) || (Bridges.Contains(type) && OfPorts.Contains(property))
            || (IsVirtioPci(type) && OfVirtioPci.Contains(property)) || property is "max_outputs" or "hostmem" or "max_ports" or "p2" or "p3" or "msi" or "msix" or "addr"
            || (type == "e1000e" && property == "x-pcie-err-unc-mask");

    private static bool IsVirtioPci(string type)
        => (type.StartsWith("virtio-", StringComparison.Ordinal) && (type.Contains("-pci", StringComparison.Ordinal) || type.StartsWith("virtio-vga", StringComparison.Ordinal)))
            || (type.StartsWith("vhost-", StringComparison.Ordinal) && type.Contains("-pci", StringComparison.Ordinal));

    internal static string Text(JsonElement? value) => value switch
    {
        null => "",
        { ValueKind: JsonValueKind.String } text => text.GetString()!,
        { ValueKind: JsonValueKind.True } => "on",
        { ValueKind: JsonValueKind.False } => "off",
        { } other => other.GetRawText(),
    };

    private static bool IsFatal(QomObject source, QomObject target, string type, string property, string here, string there)
    {
        if (here.Length == 0 || there.Length == 0)
        {
            return false;
        }

        // A function of a device with several says so in its header's type.
        if (property == "multifunction" || (Fatal.TryGetValue(type, out string[]? fatal) && fatal.Contains(property)))
        {
            return true;
        }

        bool isVirtioPci = IsVirtioPci(type);
        return property switch
        {
            _ when Bridges.Contains(type) => OfPorts.Contains(property),
            _ when isVirtioPci && OfVirtioPci.Contains(property) => true,
            "max_outputs" or "hostmem" => isVirtioPci,
            // The map of ports is in words of 32.
            "max_ports" => Words(source, property) != Words(target, property),
            // The two sorts of ports are one list in the state.
            "p2" or "p3" => IsXhci(type) && Number(source, "p2") + Number(source, "p3") != Number(target, "p2") + Number(target, "p3"),
            "msi" => IsXhci(type) && Resolve(type, property, here) != Resolve(type, property, there),
            "msix" => IsXhci(type) && Resolve(type, property, here) != Resolve(type, property, there),
            // Only with the mask is there a byte that must be the same.
            "x-pcie-err-unc-mask" => type == "e1000e" && here == "on",
            _ => false,
        };
    }

    private static bool IsXhci(string type) => type is "qemu-xhci" or "nec-usb-xhci";

    private static string Resolve(string type, string property, string value)
        => value != "auto" ? value : type == "qemu-xhci" && property == "msi" ? "off" : "on";

    private static long Words(QomObject device, string property) => (Number(device, property) + 31) / 32;

    private static long Number(QomObject device, string property) => device[property] is { ValueKind: JsonValueKind.Number } number && number.TryGetInt64(out long value) ? value : 0;
}
