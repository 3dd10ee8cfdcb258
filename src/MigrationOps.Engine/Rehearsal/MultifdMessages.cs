namespace MigrationOps.Engine.Rehearsal;

/// <summary>What QEMU says of multifd channels and packets that it does not take, in QEMU 7.2 to 11.1.</summary>
internal static class MultifdMessages
{
    private const string SameSettings = "Set multifd, multifd-channels and multifd-compression alike on both sides.";
    private const string Damaged = "The channel's bytes contradict each other: look whether another copy is whole, or migrate again.";

    internal static IReadOnlyList<QemuMessage> Table { get; } =
    [
        QemuMessage.New("MultifdUuid", @"multifd: received uuid '(?<stream>[^']+)' and expected uuid '(?<local>[^']+)'",
            "A channel is of the VM {stream}, expected {local}.", "Connect the channels of one migration to one destination."),
        // QEMU 7.2 names version 1 on both sides here, and means the number of the channel.
        QemuMessage.New("MultifdChannelCount", @"multifd: received channel id (?<stream>\d+) (?:is greater than number of channels|exceeds channel count) (?<local>\d+)|multifd: received channel version (?<stream>\d+) expected (?<local>\d+)",
            "A channel has a higher number than this QEMU has channels.", "Set multifd-channels alike on both sides."),
        QemuMessage.New("MultifdChannelTwice", @"multifd: received id '(?<stream>\d+)' already setup",
            "Two channels have the number {stream}.", "Connect the channels of one migration to one destination."),
        QemuMessage.New("MultifdPacket", @"multifd: received packet (?<field>magic|version) (?<stream>[0-9a-fx]+),?(?: and)? expected (?:magic |version )?(?<local>[0-9a-fx]+)",
            "A packet of a channel has the {field} {stream}, expected {local}.", SameSettings),
        QemuMessage.New("MultifdPages", @"multifd: received packet with (?<stream>\d+) (?:non-zero |zero )?pages,? (?:which exceeds maximum expected pages|and expected maximum pages are|expected(?: maximum)?) (?<local>\d+)",
            "A packet of a channel has {stream} pages, expected at most {local}.", "Use the same page size and the same kind of machine on both sides."),
        QemuMessage.New("MultifdBlock", @"multifd: unknown ram block (?<field>\S+)",
            "A packet of a channel has pages of the RAM block {field}, and the VM here has none of that name.",
            "Give the destination the same memory back-end ids, machine type and ROMs."),
        QemuMessage.New("MultifdOffset", @"multifd: offset too long (?<stream>\d+) \(max (?<local>[0-9a-f]+)\)",
            "A page of a channel lies at {stream}, behind the end of its RAM block here (0x{local} bytes).",
            "Give the destination the source's memory size."),
        QemuMessage.New("MultifdCompression", @"multifd \d+: flags received (?<stream>[0-9a-f]+) flags expected (?<local>[0-9a-f]+)",
            "The packets of the channels are compressed in another way (flags {stream}) than this QEMU expects (flags {local}; 0 none, 2 zlib, 4 zstd).",
            "Set multifd-compression alike on both sides."),
        QemuMessage.New("MultifdDecompression", @"multifd \d+: (?:inflate returned|inflate generated|decompressStream|packet size received)",
            "The data of a packet cannot be decompressed.", Damaged),
        QemuMessage.New("DeviceStateWithoutDevice", @"Unknown idstr (?<device>\S+) or instance id (?<instance>\d+) for load state buffer",
            "A channel has device state of {device}, and the VM here has no such device.",
            "Add the device at the same bus and address, as at the source."),
    ];
}
