using System.Globalization;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// What virtio_load checks: the transport's PCI configuration, the features that the guest took, the queues, and the
/// device's own part, which has no length in the stream.
/// </summary>
/// <param name="findings">Where findings go.</param>
/// <param name="device">The device's name in them.</param>
/// <param name="bytes">Reads the fields' bytes.</param>
/// <param name="isNew">True for a destination that checks the size of queues, as QEMU 11.1 does.</param>
internal sealed class VirtioRules(Findings findings, string device, DeviceComparer bytes, bool isNew)
{
    internal const string FieldType = "virtio";

    private const byte FeaturesOk = 0x08;

    internal void Check(FieldPair pair)
    {
        var (path, mine, theirs) = pair;
        if (mine.Children is null || theirs.Children is null)
        {
            if (mine.Length != theirs.Length)
            {
                findings.Warning(device, path, "the device's state has another size, and its parts are not known", $"{mine.Length:N0} bytes", $"{theirs.Length:N0} bytes");
            }

            return;
        }

        if (mine.Child("pci config") is { } config && theirs.Child("pci config") is { } configThere)
        {
            PciConfigRules.Check(findings, device, $"{path}.pci config", bytes.Mine(config), bytes.Theirs(configThere));
        }

        CheckFeatures(path, mine, theirs);
        CheckQueues(path, mine, theirs);
        CheckOwnPart(path, mine, theirs);
        foreach (var subsection in mine.Children.Where(c => c.IsSubsection && theirs.Child(c.Name) is null && !KnownSubsections.IsOld(c.Name)))
        {
            findings.Warning(device, $"{path}.{subsection.Name}", "an optional part that came after QEMU 7.2: the destination's QEMU must know it (its -dump-vmstate shows it)");
        }
    }

    // The stream says what the guest took, not what the device offers. A destination that has no driver yet shows nothing:
    // then only what depends on the back-end or on a property is told.
    private void CheckFeatures(string path, StateNode mine, StateNode theirs)
    {
        ulong taken = Features(mine), shown = Features(theirs);
        bool isDriven = (theirs.Child("status")?.Number & FeaturesOk) != 0;
        ulong missing = taken & ~shown & (isDriven ? ulong.MaxValue : ~VirtioNames.UsualFeatures(device));
        if (missing != 0)
        {
            findings.Warning(device, $"{path}.guest_features",
                "the guest uses features that the destination must offer: its properties and its back-end decide", VirtioNames.OfFeatures(missing, device), "");
        }
    }

    private void CheckQueues(string path, StateNode mine, StateNode theirs)
    {
        var queues = Queues(mine);
        var queuesThere = Queues(theirs);
        for (int i = 0; i < queues.Count; i++)
        {
            ulong size = queues[i], sizeThere = i < queuesThere.Count ? queuesThere[i] : 0;
            if (size <= sizeThere)
            {
                continue;
            }

            string field = $"{path}.queue[{i}].num", detail = sizeThere == 0 ? "the destination has no such queue" : "the queue is longer than the destination's";
            var (a, b) = (size.ToString(CultureInfo.InvariantCulture), sizeThere.ToString(CultureInfo.InvariantCulture));
            if (isNew)
            {
                findings.Error(device, field, detail, a, b);
            }
            else
            {
                findings.Warning(device, field, $"{detail}: QEMU 11.1 and later refuse it", a, b);
            }
        }
    }

    private void CheckOwnPart(string path, StateNode mine, StateNode theirs)
    {
        if (VirtioPorts.IsFor(device) && mine.Child("device") is { } own && theirs.Child("device") is { } ownThere)
        {
            VirtioPorts.Check(findings, device, $"{path}.device", bytes.Mine(own), bytes.Theirs(ownThere));
            return;
        }

        long length = mine.Child("device")?.Length ?? 0, lengthThere = theirs.Child("device")?.Length ?? 0;
        if (length == lengthThere)
        {
            return;
        }

        // With a driver at work it has lists whose length the stream tells in a way that only the device knows.
        bool isIdle = mine.Child("status")?.Number == 0 && theirs.Child("status")?.Number == 0;
        if (isIdle)
        {
            findings.Error(device, $"{path}.device", "the device's own part has another size there: other properties", $"{length:N0} bytes", $"{lengthThere:N0} bytes");
        }
        else
        {
            findings.Warning(device, $"{path}.device", "the device's own part has another size: other properties, or what the guest has set", $"{length:N0} bytes", $"{lengthThere:N0} bytes");
        }
    }

    private static ulong Features(StateNode node) => (node.Child("guest_features") ?? node.Child("guest_features_low"))?.Number ?? 0;

    private static List<ulong> Queues(StateNode node)
        => [.. node.Children!.Where(c => c.Name.StartsWith("queue[", StringComparison.Ordinal)).Select(c => c.Child("num")?.Number ?? 0)];
}
