using MigrationOps.Engine.Qemu;
namespace MigrationOps.Engine.Streams;

/// <summary>Names of virtio status and feature bits, from the virtio specification.</summary>
internal static class VirtioNames
{
    private static readonly Dictionary<string, Dictionary<int, string>> ByDevice = new()
    {
        ["net"] = new()
        {
            [0] = "CSUM",
            [1] = "GUEST_CSUM",
            [2] = "CTRL_GUEST_OFFLOADS",
            [3] = "MTU",
            [5] = "MAC",
            [7] = "GUEST_TSO4",
            [8] = "GUEST_TSO6",
            [9] = "GUEST_ECN",
            [10] = "GUEST_UFO",
            [11] = "HOST_TSO4",
            [12] = "HOST_TSO6",
            [13] = "HOST_ECN",
            [14] = "HOST_UFO",
            [15] = "MRG_RXBUF",
            [16] = "STATUS",
            [17] = "CTRL_VQ",
            [18] = "CTRL_RX",
            [19] = "CTRL_VLAN",
            [20] = "CTRL_RX_EXTRA",
            [21] = "GUEST_ANNOUNCE",
            [22] = "MQ",
            [23] = "CTRL_MAC_ADDR",
            [53] = "VQ_NOTF_COAL",
            [54] = "GUEST_USO4",
            [55] = "GUEST_USO6",
            [56] = "HOST_USO",
            [57] = "HASH_REPORT",
            [59] = "GUEST_HDRLEN",
            [60] = "RSS",
            [61] = "RSC_EXT",
            [62] = "STANDBY",
            [63] = "SPEED_DUPLEX",
        },
        ["blk"] = new()
        {
            [0] = "BARRIER",
            [1] = "SIZE_MAX",
            [2] = "SEG_MAX",
            [4] = "GEOMETRY",
            [5] = "RO",
            [6] = "BLK_SIZE",
            [7] = "SCSI",
            [9] = "FLUSH",
            [10] = "TOPOLOGY",
            [11] = "CONFIG_WCE",
            [12] = "MQ",
            [13] = "DISCARD",
            [14] = "WRITE_ZEROES",
            [16] = "SECURE_ERASE",
            [17] = "ZONED",
        },
        ["console"] = new() { [0] = "SIZE", [1] = "MULTIPORT", [2] = "EMERG_WRITE" },
        ["balloon"] = new()
        {
            [0] = "MUST_TELL_HOST",
            [1] = "STATS_VQ",
            [2] = "DEFLATE_ON_OOM",
            [3] = "FREE_PAGE_HINT",
            [4] = "PAGE_POISON",
            [5] = "REPORTING",
        },
        ["scsi"] = new() { [0] = "INOUT", [1] = "HOTPLUG", [2] = "CHANGE", [3] = "T10_PI" },
        ["gpu"] = new() { [0] = "VIRGL", [1] = "EDID", [2] = "RESOURCE_UUID", [3] = "RESOURCE_BLOB", [4] = "CONTEXT_INIT" },
        ["fs"] = new() { [0] = "NOTIFICATION" },
    };

    private static readonly string[] Status =
        ["ACKNOWLEDGE", "DRIVER", "DRIVER_OK", "FEATURES_OK", "", "", "NEEDS_RESET", "FAILED"];

    /// <summary>Names of the status bits that are set.</summary>
    internal static string OfStatus(ulong status) => Join(status, bit => bit < Status.Length && Status[bit].Length > 0 ? Status[bit] : null);

    // What QEMU's devices offer by default whatever lies behind them: the transport's, and each device's own.
    private const ulong UsualOfTransport = 1ul << 24 | 1ul << 27 | 1ul << 28 | 1ul << 29 | 1ul << 30 | 1ul << 32 | 1ul << 40;

    private static readonly Dictionary<string, ulong> Usual = new()
    {
        ["net"] = 0x101_79bf_8064,
        ["blk"] = 1 << 2 | 1 << 4 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14,
        ["console"] = 1 << 1 | 1 << 2,
        ["balloon"] = 1 << 1,
        ["scsi"] = 1 << 1 | 1 << 2,
        ["gpu"] = 1 << 1,
    };

    /// <summary>Features that a destination offers unless its properties say otherwise.</summary>
    internal static ulong UsualFeatures(string device) => UsualOfTransport | Usual.GetValueOrDefault(KindOf(device));

    /// <summary>Names of the feature bits that are set, for a device whose layout or section has that name.</summary>
    internal static string OfFeatures(ulong features, string device)
    {
        var own = ByDevice.GetValueOrDefault(KindOf(device));
        return Join(features, bit => own?.GetValueOrDefault(bit) ?? VirtioFeatures.NameOf(bit));
    }

    private static string KindOf(string device) => device switch
    {
        _ when device.Contains("net", StringComparison.Ordinal) => "net",
        _ when device.Contains("blk", StringComparison.Ordinal) => "blk",
        _ when device.Contains("serial", StringComparison.Ordinal) || device.Contains("console", StringComparison.Ordinal) => "console",
        _ when device.Contains("balloon", StringComparison.Ordinal) => "balloon",
        _ when device.Contains("scsi", StringComparison.Ordinal) => "scsi",
        _ when device.Contains("gpu", StringComparison.Ordinal) => "gpu",
        _ when device.EndsWith("fs", StringComparison.Ordinal) => "fs",
        _ => "",
    };

    private static string Join(ulong bits, Func<int, string?> name)
        => string.Join(", ", Enumerable.Range(0, 64).Where(bit => (bits >> bit & 1) != 0).Select(bit => name(bit) ?? $"bit {bit}"));
}
