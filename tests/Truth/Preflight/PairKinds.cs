using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Truth.Preflight;

/// <summary>The kinds of differences: each a pair of command lines, and most of them the other way round as well.</summary>
internal static class PairKinds
{
    private const string Q35 = "-M pc-q35-7.2 -accel tcg -m 32";
    private const string Disk = "-blockdev null-co,node-name=d,size=67108864 -device virtio-blk-pci,drive=d";
    private const string NoDisk = "-blockdev null-co,node-name=d,size=67108864";
    private const string Rich = Disk + " -device virtio-net-pci -device qemu-xhci -device usb-tablet -device VGA -device virtio-scsi-pci -device virtio-rng-pci -device pcie-root-port,id=r,chassis=1,slot=1 -device e1000e,bus=r";

    /// <summary>The four that every Debian in use has, oldest first.</summary>
    internal static readonly string[] Programs = ["qemu-system-x86_64-older", "qemu-system-x86_64", "qemu-system-x86_64-trixie", "qemu-system-x86_64-newer"];

    /// <summary>Every kind on each of the programs.</summary>
    internal static IEnumerable<PairKind> Each(IReadOnlyList<string> programs) => programs.SelectMany(program => All().Select(pair => pair.On(program, program)));

    /// <summary>From each of the programs to each other one.</summary>
    internal static IEnumerable<PairKind> Across(IReadOnlyList<string> programs)
        => programs.SelectMany(source => programs.Where(target => target != source).SelectMany(target => Across().Select(pair => pair.On(source, target))));

    /// <summary>One pair of each kind, on one program.</summary>
    internal static IEnumerable<PairKind> Short(string program) => All().DistinctBy(pair => pair.Kind).Select(pair => pair.On(program, program));

    internal static IEnumerable<PairKind> Across() =>
    [
        Same("versions, plain", ""), Same("versions, many devices", Rich), Same("versions, pc", "").With("-M pc-i440fx-7.2 -accel tcg -m 32"), Same("versions, counting guest", "") with { Guest = PairGuest.Counting },
        .. Both("versions, vectors", "-device virtio-net-pci,vectors=3", "-device virtio-net-pci,vectors=4"), .. Both("versions, device missing", "-device virtio-rng-pci", ""),
    ];

    internal static IEnumerable<PairKind> All() =>
    [
        Same("nothing", ""), Same("nothing, many devices", Rich), Same("nothing, guest runs", Disk) with { Guest = PairGuest.Counting },
        .. Lines("machine version", Q35, "-M pc-q35-7.1 -accel tcg -m 32"), .. Lines("machine family", Q35, "-M pc-i440fx-7.2 -accel tcg -m 32"),
        .. Lines("RAM size", Q35, "-M pc-q35-7.2 -accel tcg -m 48"), .. Lines("memory slots", Q35, $"{Q35},slots=2,maxmem=128M"), .. Lines("number of memory slots", $"{Q35},slots=2,maxmem=128M", $"{Q35},slots=4,maxmem=128M"), .. Lines("maximum of memory", $"{Q35},slots=2,maxmem=128M", $"{Q35},slots=2,maxmem=256M"),
        .. Both("CPU count", "-smp 2", "-smp 1"), .. Both("CPU sockets", "-smp 2,sockets=2", "-smp 2,cores=2"), .. Both("CPUs to be plugged", "-smp 1,maxcpus=2", "-smp 1"), .. Both("APIC", "-cpu qemu64,-apic", "-cpu qemu64"),
        new("CPU feature", $"{Q35} -cpu qemu64,+popcnt", $"{Q35} -cpu qemu64") { Guest = PairGuest.Popcnt }, new("CPU feature gained", $"{Q35} -cpu qemu64", $"{Q35} -cpu qemu64,+popcnt") { Guest = PairGuest.Counting }, new("CPU model", $"{Q35} -cpu Nehalem", $"{Q35} -cpu core2duo") { Guest = PairGuest.Popcnt },
        .. Both("PCI slot", "-device e1000,addr=3", "-device e1000,addr=4"), .. Both("multifunction", "-device e1000e,addr=3,multifunction=on", "-device e1000e,addr=3"), .. Both("device", "-device virtio-rng-pci", ""), .. Both("device of another type", "-device e1000,addr=3", "-device e1000e,addr=3"), .. Both("device without state", "-device pci-testdev", ""), .. Both("ISA device", "-device isa-serial", ""), .. Both("watchdog", "-device i6300esb", ""), .. Both("device id", "-device virtio-rng-pci,id=a", "-device virtio-rng-pci,id=b"), .. Both("bus behind a port", "-device pcie-root-port,id=r,chassis=1,slot=1 -device e1000e,bus=r", "-device pcie-root-port,id=r,chassis=1,slot=1 -device e1000e,bus=pcie.0"), .. Both("network card model", "-device e1000,addr=3", "-device rtl8139,addr=3"),
        .. Both("virtio-net vectors", "-device virtio-net-pci,vectors=3", "-device virtio-net-pci,vectors=4"), .. Both("virtio-net feature", "-device virtio-net-pci,guest_announce=off", "-device virtio-net-pci"), .. Both("virtio-net queue size", "-device virtio-net-pci,rx_queue_size=1024", "-device virtio-net-pci"), .. Both("MAC address", "-device virtio-net-pci,mac=52:54:00:00:00:01", "-device virtio-net-pci,mac=52:54:00:00:00:02"), .. Both("virtio-net MTU", "-device virtio-net-pci,host_mtu=1400", "-device virtio-net-pci"),
        .. Both("virtio-blk queues", $"{Disk},num-queues=1", $"{Disk},num-queues=4"), .. Both("virtio-blk queue size", $"{Disk},queue-size=128", Disk), .. Both("virtio-blk serial", $"{Disk},serial=a", $"{Disk},serial=b"), .. Both("block size", $"{Disk},logical_block_size=4096,physical_block_size=4096", Disk),
        .. Both("virtio legacy", "-device virtio-rng-pci,disable-legacy=on", "-device virtio-rng-pci,disable-legacy=off"), .. Both("virtio modern", "-device virtio-rng-pci,disable-modern=on,disable-legacy=off", "-device virtio-rng-pci,disable-legacy=off"), .. Both("virtio page per queue", "-device virtio-rng-pci,page-per-vq=on", "-device virtio-rng-pci"), .. Both("virtio notification", "-device virtio-rng-pci,modern-pio-notify=on", "-device virtio-rng-pci"), .. Both("balloon feature", "-device virtio-balloon-pci,free-page-reporting=on", "-device virtio-balloon-pci"), .. Both("virtio-rng limit", "-device virtio-rng-pci,max-bytes=1,period=1000", "-device virtio-rng-pci"),
        .. Both("GPU outputs", "-device virtio-gpu-pci,max_outputs=2", "-device virtio-gpu-pci"), .. Both("GPU EDID", "-device virtio-gpu-pci,edid=off", "-device virtio-gpu-pci"), .. Both("serial ports", "-device virtio-serial-pci,max_ports=4", "-device virtio-serial-pci"), .. Both("serial port", "-device virtio-serial-pci -device virtserialport", "-device virtio-serial-pci"), .. Both("serial port number", "-device virtio-serial-pci -device virtserialport,nr=2", "-device virtio-serial-pci -device virtserialport,nr=3"),
        .. Both("virtio-scsi queues", "-device virtio-scsi-pci,num_queues=1", "-device virtio-scsi-pci,num_queues=4"), .. Both("virtio-scsi sectors", "-device virtio-scsi-pci,max_sectors=1024", "-device virtio-scsi-pci"), .. Both("SCSI id", $"-device virtio-scsi-pci {NoDisk} -device scsi-hd,drive=d,scsi-id=1", $"-device virtio-scsi-pci {NoDisk} -device scsi-hd,drive=d,scsi-id=2"), .. Both("SCSI disk or CD", "-device virtio-scsi-pci -device scsi-cd", $"-device virtio-scsi-pci {NoDisk} -device scsi-hd,drive=d"),
        .. Both("USB 2 ports", "-device qemu-xhci,p2=8", "-device qemu-xhci"), .. Both("USB MSI-X", "-device qemu-xhci,msix=off", "-device qemu-xhci"), .. Both("USB MSI", "-device qemu-xhci,msi=off", "-device qemu-xhci"), .. Both("USB device", "-device qemu-xhci -device usb-tablet", "-device qemu-xhci"), .. Both("USB device of another type", "-device qemu-xhci -device usb-tablet", "-device qemu-xhci -device usb-mouse"), .. Both("USB port", "-device qemu-xhci -device usb-kbd,port=1", "-device qemu-xhci -device usb-kbd,port=3"),
        .. Ports("root port slot", "slot=2"), .. Ports("root port number", "port=3"), .. Ports("root port hot-plug", "hotplug=off"), .. Ports("root port speed", "x-speed=2_5"), .. Ports("root port AER", "aer_log_max=16"), .. Ports("root port reserve", "bus-reserve=4"), .. Ports("root port ACS", "disable-acs=on"), .. Both("chassis", "-device pcie-root-port,chassis=1,slot=1", "-device pcie-root-port,chassis=2,slot=1"), .. Both("bridge SHPC", "-device pci-bridge,chassis_nr=1,shpc=on", "-device pci-bridge,chassis_nr=1,shpc=off"), .. Both("bridge MSI", "-device pci-bridge,chassis_nr=1,msi=on", "-device pci-bridge,chassis_nr=1,msi=off"),
        .. Both("video memory", "-device VGA,vgamem_mb=32", "-device VGA"), .. Both("video MMIO", "-device VGA,mmio=off", "-device VGA"), .. Both("video card", "-device VGA", "-device cirrus-vga"), .. Both("video EDID", "-device VGA,edid=off", "-device VGA"),
        .. Both("ROM file", "-device e1000,addr=3", "-device e1000,addr=3,romfile="), .. Both("ROM bar", "-device e1000,addr=3", "-device e1000,addr=3,rombar=0"), .. Both("firmware size", "-bios bios-256k.bin", "-bios bios-microvm.bin"), .. Both("subsystem", "-device e1000e,subsys=5", "-device e1000e"), .. Both("audio codec", "-device intel-hda -audiodev none,id=a -device hda-duplex,audiodev=a", "-device intel-hda"), .. Both("audio MSI", "-device intel-hda,old_msi_addr=on", "-device intel-hda"),
        .. Lines("RAM backend", Backend("ram,id=m0,size=32M"), Backend("memfd,id=m0,size=32M,share=off")), .. Lines("RAM backend id", Backend("ram,id=m0,size=32M"), Q35), .. Lines("DIMM", Dimm("id=d0,memdev=m1"), $"{Q35},slots=2,maxmem=256M -object memory-backend-ram,id=m1,size=32M"), .. Lines("DIMM slot", Dimm("id=d0,memdev=m1,slot=0"), Dimm("id=d0,memdev=m1,slot=1")), .. Lines("DIMM size", Dimm("id=d0,memdev=m1"), Dimm("id=d0,memdev=m1").Replace("size=32M", "size=64M", StringComparison.Ordinal)),
        .. Machine("HPET", "hpet=off"), .. Machine("SATA", "sata=off"), .. Machine("SMBus", "smbus=off"), .. Machine("i8042", "i8042=off"), .. Machine("PIT", "pit=off"), .. Machine("VMware port", "vmport=on"), .. Machine("SMM", "smm=off"), .. Machine("SMBIOS", "smbios-entry-point-type=32"), .. Machine("fd-bootchk", "fd-bootchk=off"), .. Machine("USB of the machine", "usb=on"),
        .. Both("UUID", "-uuid 11112222-3333-4444-5555-666677778888", "-uuid 11112222-3333-4444-5555-666677779999"), .. Both("name", "-name a", "-name b"), .. Both("RTC base", "-rtc base=localtime", "-rtc base=utc"), .. Both("global of a device", "-global ICH9-LPC.disable_s3=1", "-global ICH9-LPC.disable_s3=0"), .. Both("global of HPET", "-global hpet.timers=4", ""),
        .. Monitors(), .. Disks(),
    ];

    private static IEnumerable<PairKind> Monitors() =>
    [
        Same("UUID is validated", "") with { Source = $"{Q35} -uuid 11112222-3333-4444-5555-666677778888", Target = $"{Q35} -uuid 11112222-3333-4444-5555-666677779999", Prepare = run => Task.WhenAll(PairRun.SetAsync(run.Source, "validate-uuid"), PairRun.SetAsync(run.Target, "validate-uuid")) },
        Same("target does not wait", "") with { Incoming = "" },
        Same("target listens", "") with { Incoming = "unix:DIR/migrate" },
        Same("multifd at the source only", "") with { Incoming = "unix:DIR/migrate", Prepare = run => PairRun.SetAsync(run.Source, "multifd") },
        Same("x-ignore-shared at the target only", "") with { Prepare = run => PairRun.SetAsync(run.Target, "x-ignore-shared") },
        Same("channels", "") with { Options = new PreflightOptions { Channels = 4 } },
        Same("channels differ", "") with { Prepare = ChannelsAsync },
        Same("postcopy", "") with { Options = new PreflightOptions { Mode = QemuMigrationMode.Postcopy } },
        Same("postcopy with channels", "") with { Options = new PreflightOptions { Mode = QemuMigrationMode.Postcopy, Channels = 2 } },
        Same("migrated already", "") with { Prepare = MigratedAsync },
        PortInUse(),
        Same("device that is not migrated", "-blockdev null-co,node-name=n,size=67108864 -device nvme,serial=a,drive=n"),
        Same("shared memory device", "-object memory-backend-ram,id=s,size=1M -device ivshmem-plain,memdev=s"),
    ];

    // Somebody listens where the target is to listen. The listener lives as long as the process of this table.
    private static PairKind PortInUse()
    {
        var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return Same("port in use", "") with { Options = new PreflightOptions { Listen = new Endpoint.Tcp("127.0.0.1", ((IPEndPoint)listener.LocalEndpoint).Port) } };
    }

    // Both set by hand, differently; the migration leaves them as they are.
    private static async Task ChannelsAsync(PairRun run)
    {
        await PairRun.SetAsync(run.Source, "multifd");
        await run.Source.Monitor.ExecuteAsync("migrate-set-parameters", new JsonObject { ["multifd-channels"] = 2 });
    }

    // The source has given its guest away before; its file is the proof.
    private static async Task MigratedAsync(PairRun run)
    {
        await run.Source.Monitor.ExecuteAsync("migrate", new JsonObject { ["uri"] = $"exec:cat > {run.File("stream")}" });
        await PairRun.UntilAsync(async () => (await run.Source.Monitor.ExecuteAsync("query-migrate")).Text("status") == "completed");
    }

    private static IEnumerable<PairKind> Disks()
    {
        string one = FileDisk("one.img"), other = FileDisk("other.img");
        return
        [
            new("same disk", $"{Q35} {one}", $"{Q35} {one}") { Prepare = MarkAsync },
            new("disk path", $"{Q35} {one}", $"{Q35} {other}") { Prepare = MarkAsync },
        ];
    }

    private static string FileDisk(string name) => $"-blockdev driver=file,filename=DIR/{name},node-name=f,locking=off -blockdev driver=raw,file=f,node-name=d -device virtio-blk-pci,drive=d,id=disk";

    // What stands for the guest's write: the monitor's own, of a pattern that is looked for behind the migration.
    private static async Task MarkAsync(PairRun run)
    {
        await run.Source.Monitor.ExecuteAsync("human-monitor-command", new JsonObject { ["command-line"] = $"qemu-io d \"write -P {PairRun.Mark} 0 512\"" });
        run.IsMarked = true;
    }

    private static PairKind Same(string kind, string more) => new(kind, $"{Q35} {more}".Trim(), $"{Q35} {more}".Trim());

    private static PairKind With(this PairKind pair, string arguments) => pair with { Source = arguments, Target = arguments };

    private static IEnumerable<PairKind> Both(string kind, string one, string other) => Lines(kind, $"{Q35} {one}".Trim(), $"{Q35} {other}".Trim());

    private static IEnumerable<PairKind> Lines(string kind, string one, string other)
    {
        var pair = new PairKind(kind, one, other);
        return [pair, pair.Reversed];
    }

    private static IEnumerable<PairKind> Ports(string kind, string property) => Both(kind, $"-device pcie-root-port,chassis=1,slot=1,{property}".Replace("slot=1,slot", "slot", StringComparison.Ordinal), "-device pcie-root-port,chassis=1,slot=1");

    private static IEnumerable<PairKind> Machine(string kind, string property) => Lines(kind, Q35.Replace("pc-q35-7.2", $"pc-q35-7.2,{property}", StringComparison.Ordinal), Q35);

    private static string Backend(string backend) => $"{Q35.Replace("pc-q35-7.2", "pc-q35-7.2,memory-backend=m0", StringComparison.Ordinal)} -object memory-backend-{backend}";

    private static string Dimm(string device) => $"{Q35},slots=2,maxmem=256M -object memory-backend-ram,id=m1,size=32M -device pc-dimm,{device}";
}
