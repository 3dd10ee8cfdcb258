using System.Globalization;

namespace MigrationOps.Engine.Preflight;

/// <summary>Devices: that each of the source has its counterpart at the same place, and what differs between the two.</summary>
internal static class DeviceChecks
{
    // Their state is registered by hand, so that no list of layouts has it.
    private static readonly string[] WithStateByHand = ["i82550", "i82551", "i82557a", "i82557b", "i82557c", "i82558a", "i82558b", "i82559a", "i82559b", "i82559c", "i82559er", "i82562", "i82801"];

    internal static IEnumerable<PreflightCheck> All =>
    [
        new("DeviceTree", QemuCheckGroup.Device, DeviceTree),
        new("DeviceProperties", QemuCheckGroup.Device, DeviceProperties),
        new("VmState", QemuCheckGroup.Device, VmState),
    ];

    private static Finding? DeviceTree(PreflightFacts facts)
    {
        if (facts.Target is not { } target)
        {
            return null;
        }

        if (DeviceFacts.Of(facts.Source) is not { } here || DeviceFacts.Of(target) is not { } there)
        {
            return Finding.Unknown("The devices of one side were not read: a monitor with a lease answers too few questions.", "Give a monitor that no manager needs, without a lease.");
        }

        var differences = new List<QemuMigrationDifference>();
        var gone = new HashSet<string>(StringComparer.Ordinal);
        foreach (var device in here.Values.Where(IsCompared))
        {
            if (gone.Contains(device.Parent))
            {
                gone.Add(device.Location);
            }
            else if (!there.TryGetValue(device.Location, out var other))
            {
                gone.Add(device.Location);
                var status = HasState(device, here.Values, facts.Layouts?.Source) ? QemuCheckStatus.Blocker : QemuCheckStatus.Warning;
                differences.Add(Finding.Difference(status, device.Location, device.Label, there.Values.FirstOrDefault(found => found.Id is not null && found.Id == device.Id) is { } moved ? $"at {moved.Location}" : null));
            }
            else if (other.Type != device.Type)
            {
                gone.Add(device.Location);
                differences.Add(Finding.Difference(LoadsInto(device, other, here.Values, there.Values, facts.Layouts) ? QemuCheckStatus.Warning : QemuCheckStatus.Blocker, device.Location, device.Label, other.Label));
            }
        }

        // The stream has nothing for a device that only the target has; it stays as after a reset. Only the ports of a serial bus are counted.
        differences.AddRange(there.Values.Where(device => IsCompared(device) && !here.ContainsKey(device.Location) && !(there.TryGetValue(device.Parent, out var parent) && !here.ContainsKey(parent.Location)))
            .Select(device => Finding.Difference(IsCountedPort(device) ? QemuCheckStatus.Blocker : QemuCheckStatus.Warning, device.Location, null, device.Label)));
        return Finding.Of(differences, Describe, worst => ActionFor(worst[0], here, there));
    }

    // A CPU and what is below it is the matter of other checks.
    private static bool IsCompared(DeviceFacts device) => !device.Type.EndsWith("-cpu", StringComparison.Ordinal) && !device.Object.Path.EndsWith("/lapic", StringComparison.Ordinal);

    private static bool IsCountedPort(DeviceFacts device)
        => device.Type is "virtserialport" or "virtconsole" && PropertyRules.Text(device.Object["nr"]) != "0";

    private static bool HasState(DeviceFacts device, IEnumerable<DeviceFacts> all, IReadOnlyDictionary<string, string>? layouts)
        => layouts is null ? device.IsUsers
            : all.Where(found => found == device || found.Location.StartsWith(device.Location + "/", StringComparison.Ordinal))
                .Any(found => layouts.ContainsKey(found.Type) || WithStateByHand.Contains(found.Type) || found.Type is "virtserialport" or "virtconsole");

    // Types that share a layout read each other's state; but a PCI device says in its configuration space who made it.
    private static bool LoadsInto(DeviceFacts device, DeviceFacts other, IEnumerable<DeviceFacts> here, IEnumerable<DeviceFacts> there, LayoutFacts? layouts)
    {
        if (layouts is null || device.Object["addr"] is not null)
        {
            return false;
        }

        return layouts.Source.TryGetValue(device.Type, out string? layout) ? layouts.Target.GetValueOrDefault(other.Type) == layout && !HasChildren(device, here) && !HasChildren(other, there)
            : !HasState(device, here, layouts.Source);
    }

    private static bool HasChildren(DeviceFacts device, IEnumerable<DeviceFacts> all) => all.Any(found => found.Parent == device.Location);

    private static string Describe(IReadOnlyList<QemuMigrationDifference> worst)
    {
        var first = worst[0];
        string text = (first.Source.Length, first.Target.Length) switch
        {
            (0, _) => $"The target has {first.Target}, the source has not",
            (_, 0) => $"The target has no {first.Source} at {first.Name}",
            _ when first.Target.StartsWith("at ", StringComparison.Ordinal) => $"{first.Source} is at {first.Name}, and on the target {first.Target}",
            _ => $"At {first.Name} the source has {first.Source}, the target {first.Target}",
        };
        return text + (worst.Count > 1 ? string.Create(CultureInfo.InvariantCulture, $", and {worst.Count - 1} more.") : ".")
            + (first.Status == QemuCheckStatus.Warning ? " It has no state in the stream, but the guest sees the difference." : "");
    }

    private static string ActionFor(QemuMigrationDifference difference, IReadOnlyDictionary<string, DeviceFacts> here, IReadOnlyDictionary<string, DeviceFacts> there)
    {
        if (difference.Source.Length == 0)
        {
            return there[difference.Name] is { Id: { } extra } ? $"Start the target without it, or remove it there on the monitor: device_del @{{ id = '{extra}' }}" : "Start the target without it.";
        }

        var device = here[difference.Name];
        return device.IsUsers
            ? $"Start the target with -device {device.Type}{(device.Id is { } id ? $",id={id}" : "")}{(device.AddressOption is { } address ? $",{address}" : "")} and the source's other properties."
            : $"Start the target with the options of the source's command line that make {device.Type}.";
    }

    private static Finding? DeviceProperties(PreflightFacts facts)
    {
        if (facts.Target is not { } target || DeviceFacts.Of(facts.Source) is not { } here || DeviceFacts.Of(target) is not { } there)
        {
            return null;
        }

        var differences = new List<QemuMigrationDifference>();
        foreach (var device in here.Values.Where(IsCompared))
        {
            if (!there.TryGetValue(device.Location, out var other) || other.Type != device.Type)
            {
                continue;
            }

            foreach (string property in device.Object.Properties.Keys.Union(other.Object.Properties.Keys).Order(StringComparer.Ordinal))
            {
                if (PropertyRules.StatusOf(device.Object, other.Object, property) is { } status)
                {
                    differences.Add(Finding.Difference(status, $"{device.Label}.{property}", PropertyRules.Text(device.Object[property]), PropertyRules.Text(other.Object[property])));
                }
            }
        }

        return Finding.Of(differences,
            worst => worst[0].Status switch
            {
                QemuCheckStatus.Blocker => $"{worst[0].Name} is {Shown(worst[0].Source)} at the source and {Shown(worst[0].Target)} at the target: the device's state does not fit.",
                QemuCheckStatus.Warning => $"{worst[0].Name} is {Shown(worst[0].Source)} at the source and {Shown(worst[0].Target)} at the target: the guest may see it.",
                _ => "Properties differ that the host alone sees.",
            },
            worst => worst[0].Status == QemuCheckStatus.Info ? "" : $"Start the target with {PropertyName(worst[0].Name)}={worst[0].Source} for this device.");
    }

    private static string PropertyName(string name) => name[(name.LastIndexOf('.') + 1)..];

    private static string Shown(string value) => value.Length == 0 ? "not there" : value;

    private static Finding? VmState(PreflightFacts facts)
    {
        if (facts.Target is null)
        {
            return null;
        }

        if (facts.Layouts is not { } layouts)
        {
            return Finding.Unknown("The programs could not be asked for their layouts of device state (-dump-vmstate): they are not on this host, or not for this user to run.",
                "Run the test on the host where both QEMUs are installed, or compare streams by hand.");
        }

        if (layouts.IsSameBuild)
        {
            return Finding.Passed("Both are the same build.");
        }

        var types = facts.Source.Objects?.Select(found => found.Type).ToHashSet(StringComparer.Ordinal);
        var differences = layouts.Differences.Where(line => types?.Contains(line.Device) != false).Select(line => Finding.Difference(
            IsRefused(line) ? QemuCheckStatus.Blocker : QemuCheckStatus.Warning, line.Field.Length == 0 ? line.Device : $"{line.Device}.{line.Field}", Join(line.Detail, line.Reference), line.Difference)).ToList();
        return Finding.Of(differences,
            worst => $"{worst[0].Name}: {worst[0].Source}.",
            worst => worst[0].Status == QemuCheckStatus.Blocker ? "Use a QEMU on the target that is not older than the source's." : "Rehearse with a stream of the source.");
    }

    // A type that is not known and a version out of range are refused. Fields that stand beside each other are not proof: before 8.1 a dump
    // does not say how long arrays are, and bytes that one release skips bear a name in the next.
    private static bool IsRefused(MigrationStreamDifference line)
        => line.Severity == "Error" && (line.Field.Length == 0 || line.Detail.StartsWith("the layout's version", StringComparison.Ordinal));

    private static string Join(string detail, string value) => value.Length == 0 ? detail : $"{detail} ({value})";
}
