using System.Globalization;
using System.Text.Json;

namespace MigrationOps.Engine.Preflight;

/// <summary>
/// A device by where it is: the same location in both QEMUs is the same device to the guest and to the stream, whatever its id is.
/// </summary>
/// <param name="Location">Buses and addresses from the machine down to it, such as <c>pcie.0/03.0/virtio-bus/virtio-net-device</c>.</param>
/// <param name="Parent">The location of the device whose bus it sits on; empty on the machine's own.</param>
/// <param name="Object">The object.</param>
internal sealed record DeviceFacts(string Location, string Parent, QomObject Object)
{
    private const string Peripheral = "/machine/peripheral/";
    internal const string UsbBus = "usb-bus";
    internal const string ChildOfBus = "child[";
    private const string Anonymous = "/machine/peripheral-anon/";

    // What tells devices of one bus apart, by kind of bus.
    private static readonly string[] Addresses = ["addr", "port", "nr", "scsi-id", "unit", "cad", "address", "slot", "iobase", "base"];

    private static readonly string[] OfScsi = ["channel", "scsi-id", "lun"];

    internal string Type => Object.Type;

    /// <summary>What the user called it; null if QEMU made it or it has no name.</summary>
    internal string? Id => Object.Path.StartsWith(Peripheral, StringComparison.Ordinal) && Object.Path.IndexOf('/', Peripheral.Length) < 0 ? Object.Path[Peripheral.Length..] : null;

    /// <summary>True if -device or device_add made it.</summary>
    internal bool IsUsers => Id is not null || (Object.Path.StartsWith(Anonymous, StringComparison.Ordinal) && Object.Path.IndexOf('/', Anonymous.Length) < 0);

    /// <summary>How a message calls it.</summary>
    internal string Label => Id is { } id ? $"{id} ({Type})" : Type;

    /// <summary>The address on its bus as -device takes it (addr=0x3); null if it has none.</summary>
    internal string? AddressOption => Addresses.Select(name => (name, Value: AddressOf(Object, name))).Where(pair => pair.Value is not null)
        .Select(pair => pair.name == "addr" ? "addr=0x" + (pair.Value!.EndsWith(".0", StringComparison.Ordinal) ? pair.Value[..^2] : pair.Value).TrimStart('0').PadLeft(1, '0') : $"{pair.name}={pair.Value}").FirstOrDefault();

    /// <summary>The devices of a QEMU by location; null if its object model was not read.</summary>
    internal static IReadOnlyDictionary<string, DeviceFacts>? Of(QemuFacts qemu)
    {
        if (qemu.Objects is not { Count: > 0 } objects)
        {
            return null;
        }

        var byPath = objects.Where(found => found.IsDevice).ToDictionary(device => device.Path, StringComparer.Ordinal);
        var locations = new Dictionary<string, string>(StringComparer.Ordinal);
        // A USB device that was given no port has the next one, which it does not tell; its place in the row stands for it.
        var rows = objects.Where(found => found.Type == UsbBus).SelectMany(bus => bus.Properties.Where(pair => pair.Key.StartsWith(ChildOfBus, StringComparison.Ordinal)))
            .Select(pair => (Path: PropertyRules.Text(pair.Value), Place: pair.Key[ChildOfBus.Length..^1])).DistinctBy(pair => pair.Path).ToDictionary(pair => pair.Path, pair => pair.Place, StringComparer.Ordinal);
        var taken = new Dictionary<string, DeviceFacts>(StringComparer.Ordinal);
        foreach (var device in byPath.Values)
        {
            string parent = ParentOf(device, byPath) is { } above ? Locate(above, byPath, rows, locations) : "";
            string location = Locate(device, byPath, rows, locations);
            // Devices without an address of their own are numbered in their order.
            string unique = location;
            for (int number = 2; taken.ContainsKey(unique); number++)
            {
                unique = string.Create(CultureInfo.InvariantCulture, $"{location}#{number}");
            }

            taken.Add(unique, new DeviceFacts(unique, parent, device));
        }

        return taken;
    }

    private static string Locate(QomObject device, Dictionary<string, QomObject> byPath, Dictionary<string, string> rows, Dictionary<string, string> known)
    {
        if (known.TryGetValue(device.Path, out string? location))
        {
            return location;
        }

        string? bus = BusOf(device);
        string busName = bus is null ? "" : bus[(bus.LastIndexOf('/') + 1)..];
        string address = Addresses.Select(name => AddressOf(device, name)).FirstOrDefault(value => value is not null) is { } first
            ? string.Join('.', OfScsi.Select(name => AddressOf(device, name)).OfType<string>()) is { Length: > 0 } scsi ? scsi : first
            : rows.TryGetValue(device.Path, out string? place) ? $"#{place}" : device.Type;
        known[device.Path] = "";
        string above = ParentOf(device, byPath) is { } parent ? Locate(parent, byPath, rows, known) + "/" : "";
        // A bus bears its device's id, which the stream does not know.
        string busKind = above.Length > 0 && busName.Contains('.', StringComparison.Ordinal) ? busName[(busName.IndexOf('.', StringComparison.Ordinal) + 1)..] : above.Length > 0 ? "bus" : busName;
        return known[device.Path] = $"{above}{busKind}{(busKind.Length > 0 ? "/" : "")}{address}";
    }

    private static string? BusOf(QomObject device) => device["parent_bus"] is { ValueKind: JsonValueKind.String } bus && bus.GetString() is { Length: > 0 } path ? path : null;

    // The device that has the bus: the path above the bus's name.
    private static QomObject? ParentOf(QomObject device, Dictionary<string, QomObject> byPath)
        => BusOf(device) is { } bus && bus.LastIndexOf('/') is > 0 and var slash ? byPath.GetValueOrDefault(bus[..slash]) : null;

    private static string? AddressOf(QomObject device, string name)
    {
        if (device[name] is not { } value)
        {
            return null;
        }

        return value.ValueKind switch
        {
            // A PCI address as a number: five bits of slot, three of function.
            JsonValueKind.Number when name == "addr" => value.TryGetInt32(out int devfn) && devfn >= 0 ? string.Create(CultureInfo.InvariantCulture, $"{devfn >> 3:x2}.{devfn & 7}") : null,
            JsonValueKind.Number => value.GetRawText(),
            JsonValueKind.String when value.GetString() is { Length: > 0 } text => text,
            _ => null,
        };
    }
}
