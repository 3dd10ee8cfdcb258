using System.Globalization;
using System.Text.Json.Nodes;

namespace MigrationOps.Truth;

/// <summary>Pairs of a device as it is by default and with one of its properties changed, for every property that QEMU lists.</summary>
internal static class PropertyMatrix
{
    private const string Program = "qemu-system-x86_64";
    private const string Base = "-M q35 -m 16";

    // Of properties that all devices of a bus share, one device is enough.
    private const string ForPci = "e1000e";
    private const string ForVirtio = "virtio-rng-pci";
    private const string PlainPci = "pci-testdev";

    private static readonly (string Type, string Needs)[] Devices =
    [
        ("e1000e", ""), ("virtio-rng-pci", ""), ("virtio-net-pci", ""), ("virtio-blk-pci", ",drive=d -blockdev null-co,node-name=d,size=67108864"), ("virtio-scsi-pci", ""), ("virtio-serial-pci", ""), ("virtio-balloon-pci", ""), ("virtio-gpu-pci", ""), ("virtio-keyboard-pci", ""), ("e1000", ""), ("igb", ""), ("rtl8139", ""), ("pcnet", ""), ("vmxnet3", ""), ("i82550", ""), ("tulip", ""),
        ("qemu-xhci", ""), ("nec-usb-xhci", ""), ("usb-ehci", ""), ("pci-ohci", ""), ("ich9-usb-uhci1", ""), ("ich9-ahci", ""), ("lsi53c895a", ""), ("megasas", ""), ("mptsas1068", ""), ("pvscsi", ""), ("am53c974", ""), ("sdhci-pci", ""), ("VGA", ""), ("cirrus-vga", ""), ("vmware-svga", ""), ("bochs-display", ""), ("ati-vga", ""), ("intel-hda", ""), ("pcie-root-port", ""), ("ioh3420", ""), ("pci-bridge", ",chassis_nr=1"), ("pcie-pci-bridge", ""), ("x3130-upstream", ""), ("i6300esb", ""), ("edu", ""), ("pci-testdev", ""), ("intel-iommu", ""), ("virtio-iommu-pci", ""), ("isa-serial", ""), ("ib700", ""), ("pvpanic", ""),
    ];

    private static readonly HashSet<string> Skipped =
    [
        "id", "bus", "addr", "type", "realized", "hotpluggable", "hotplugged", "parent_bus", "netdev", "mac", "drive", "chardev", "failover_pair_id", "iothread", "iothread-vq-mapping", "rng", "host_mtu", "name", "serial", "bootindex", "logical_block_size", "physical_block_size", "audiodev", "romfile", "memdev", "primary-bus", "display", "head", "ports", "world", "fp_start_macaddr", "subsys-id", "subsys",
    ];

    internal static IReadOnlyList<TruthPair> Pairs(string folder)
    {
        Directory.CreateDirectory(folder);
        var pairs = new List<TruthPair>();
        foreach (var (type, needs) in Devices)
        {
            var plain = new CommandLine(Program, $"{Base} -device {type}{needs}");
            foreach (string change in Changes(folder, type))
            {
                var changed = new CommandLine(Program, $"{Base} -device {type},{change}{needs}");
                pairs.Add(new($"property of {type}", plain, changed));
                pairs.Add(new($"property of {type}", changed, plain));
            }
        }

        return pairs;
    }

    // What a device has beside what all of its bus have.
    private static IEnumerable<string> Changes(string folder, string type)
    {
        var common = type == ForPci ? [] : Names(folder, PlainPci);
        if (type.StartsWith("virtio-", StringComparison.Ordinal) && type != ForVirtio)
        {
            common.UnionWith(Names(folder, ForVirtio));
        }

        return Properties(folder, type).Where(change => !Skipped.Contains(NameOf(change)) && !common.Contains(NameOf(change)));
    }

    // Asked once, and kept with the streams.
    private static string[] Properties(string folder, string type)
    {
        string file = Path.Combine(folder, $"{type}.properties");
        if (!File.Exists(file))
        {
            var answer = TruthQemu.Ask(new CommandLine(Program, "-M none"), "device-list-properties", new JsonObject { ["typename"] = type });
            File.WriteAllLines(file, answer!.AsArray().Select(p => Change(p!)).Where(c => c is not null).Select(c => c!).Order(StringComparer.Ordinal));
        }

        return File.ReadAllLines(file);
    }

    private static HashSet<string> Names(string folder, string type) => [.. Properties(folder, type).Select(NameOf)];

    private static string NameOf(string change) => change.Split('=')[0];

    private static string? Change(JsonNode property)
    {
        string name = (string)property["name"]!, type = (string)property["type"]!;
        var value = property["default-value"];
        return type switch
        {
            "bool" or "on/off" => $"{name}={((string?)value?.ToString() is "true" or "on" ? "off" : "on")}",
            "OnOffAuto" => $"{name}={(value?.ToString() == "on" ? "off" : "on")}",
            "uint8" or "uint16" or "uint32" or "uint64" or "int32" or "int64" or "size" => string.Create(CultureInfo.InvariantCulture,
                $"{name}={(long.TryParse(value?.ToString(), out long number) ? number switch { 0 or > 0x4000_0000 or < 0 => 4, 1 => 2, _ => number * 2 } : 4)}"),
            _ => null,
        };
    }
}
