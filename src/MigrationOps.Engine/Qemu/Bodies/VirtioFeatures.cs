namespace MigrationOps.Engine.Qemu;

/// <summary>
/// Names of the feature bits that mean the same for every virtio device, from the virtio specification (6, "Reserved Feature
/// Bits", and the legacy ones); bit 30 is vhost-user's. The low bits mean something else for every device type.
/// </summary>
internal static class VirtioFeatures
{
    private static readonly Dictionary<int, string> Names = new()
    {
        [24] = "NOTIFY_ON_EMPTY",
        [27] = "ANY_LAYOUT",
        [28] = "RING_INDIRECT_DESC",
        [29] = "RING_EVENT_IDX",
        [30] = "PROTOCOL_FEATURES",
        [32] = "VERSION_1",
        [33] = "ACCESS_PLATFORM",
        [34] = "RING_PACKED",
        [35] = "IN_ORDER",
        [36] = "ORDER_PLATFORM",
        [37] = "SR_IOV",
        [38] = "NOTIFICATION_DATA",
        [39] = "NOTIF_CONFIG_DATA",
        [40] = "RING_RESET",
        [41] = "ADMIN_VQ",
    };

    /// <summary>The name of a bit, 0 to 63; null for one that is a device's own or unknown.</summary>
    internal static string? NameOf(int bit) => Names.GetValueOrDefault(bit);
}
