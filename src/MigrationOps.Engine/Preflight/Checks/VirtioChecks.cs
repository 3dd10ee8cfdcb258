using System.Text.Json;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>virtio: that the target's devices have the features that the guest's drivers have accepted.</summary>
internal static class VirtioChecks
{
    // Bits for which this QEMU has no name.
    private static readonly string[] Unnamed = ["unknown-dev-features", "unknown-dev-features2"];

    internal static IEnumerable<PreflightCheck> All => [new("VirtioFeatures", QemuCheckGroup.Device, VirtioFeatures)];

    private static Finding? VirtioFeatures(PreflightFacts facts)
    {
        if (facts.Target is not { } target || !HasVirtio(facts.Source))
        {
            return null;
        }

        if (facts.Source.Virtio is not { } here || target.Virtio is not { } there)
        {
            return Finding.Unknown("Which features the guest's drivers have accepted was not asked: a QEMU of this version may end when it is (x-query-virtio-status). What the devices offer is a matter of DeviceProperties.");
        }

        var mine = DeviceFacts.Of(facts.Source)?.Values.ToDictionary(device => device.Object.Path, device => device.Location, StringComparer.Ordinal);
        var theirs = DeviceFacts.Of(target);
        var differences = new List<QemuMigrationDifference>();
        foreach (var (path, status) in here)
        {
            string otherPath = mine?.GetValueOrDefault(path) is { } location && theirs?.GetValueOrDefault(location) is { } counterpart ? counterpart.Object.Path : path;
            if (!there.TryGetValue(otherPath, out var other))
            {
                continue;
            }

            var offered = Names(other.Member("host-features"));
            string[] lost = [.. Names(status.Member("guest-features")).Except(offered).Order(StringComparer.Ordinal)];
            string name = path.Split('/').LastOrDefault(part => part is not "virtio-backend" and not "virtio-bus") ?? path;
            differences.AddRange(lost.Select(feature => Finding.Difference(QemuCheckStatus.Blocker, $"{name} {feature}", "accepted by the guest", null)));
            differences.AddRange(Names(status.Member("host-features")).Except(offered).Except(lost).Order(StringComparer.Ordinal)
                .Select(feature => Finding.Difference(QemuCheckStatus.Warning, $"{name} {feature}", "offered", null)));
        }

        return Finding.Of(differences,
            worst => worst[0].Status == QemuCheckStatus.Blocker ? $"The guest's driver uses {worst[0].Name}, which the target's device does not offer: QEMU refuses the device's state." : $"The source's device offers {worst[0].Name}, the target's does not. The guest does not use it now, but may ask for it at its next boot.",
            worst => worst[0].Status == QemuCheckStatus.Blocker ? "Start the target with the source's properties of this device, and with the same back-end and its version." : "Start the target with the source's properties of this device.");
    }

    private static bool HasVirtio(QemuFacts qemu) => qemu["x-query-virtio"]?.Items().Any() == true;

    // Lines such as "VIRTIO_RING_F_INDIRECT_DESC: Indirect descriptors supported": the words behind the name differ between versions.
    private static HashSet<string> Names(JsonElement? features) => features is { } value
        ? [.. value.Texts("transports").Concat(value.Texts("dev-features")).Select(text => text.Split(':')[0]),
            .. Unnamed.Select(name => (name, Bits: value.Number(name) ?? 0)).Where(pair => pair.Bits != 0).Select(pair => $"{pair.name} 0x{pair.Bits:x}")]
        : [];
}
