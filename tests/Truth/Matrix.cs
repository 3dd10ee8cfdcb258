namespace MigrationOps.Truth;

/// <summary>The pairs: groups of command lines that differ in one thing, each with each, and one command line on several releases.</summary>
internal static class Matrix
{
    private const int ShortCount = 150;
    private const string X86 = "qemu-system-x86_64";
    private const string Disk = "-blockdev null-co,node-name=d,size=67108864";

    private static readonly string[] Releases = ["-older", "", "-trixie", "-newer"];
    private static readonly string[] TwoReleases = ["-older", "-trixie"];

    /// <summary>The groups that are written down, and every property of the usual devices.</summary>
    internal static IReadOnlyList<TruthPair> Long(string folder) => [.. Written(), .. PropertyMatrix.Pairs(folder)];

    /// <summary>A sample of the groups that are written down: every kind, and of each the same share.</summary>
    internal static IReadOnlyList<TruthPair> Short()
    {
        var all = Written().ToList();
        return [.. Enumerable.Range(0, ShortCount).Select(i => all[(int)((long)i * all.Count / ShortCount)])];
    }

    private static IEnumerable<TruthPair> Written() => [.. MachinePairs(), .. DevicePairs(), .. CpuPairs(), .. BoardPairs(), .. ReleasePairs(), .. BootedPairs()];

    private static IEnumerable<TruthPair> MachinePairs() =>
    [
        .. Each("machine", X86, "-m 16", "-M pc", "-M q35", "-M pc-q35-9.0", "-M pc-i440fx-9.0", "-M microvm", "-M isapc", "-M none"),
        .. Star("machine property", X86, "-m 16 -M q35", "", ",hpet=off", ",smm=off", ",i8042=off", ",vmport=on", ",sata=off", ",smbus=off", ",pit=off", ",acpi=off", ",usb=on", ",graphics=off", ",smbios-entry-point-type=32", ",nvdimm=on", ",hmat=on", ",fd-bootchk=off"),
        .. Star("machine property", X86, "-m 16 -M pc", "", ",hpet=off", ",smm=off", ",i8042=off", ",vmport=on", ",pit=off", ",acpi=off", ",usb=on", ",pcspk-audiodev=a -audiodev none,id=a"),
        .. Star("machine property", X86, "-m 16 -M microvm", "", ",rtc=on", ",pic=off", ",pit=off", ",pcie=on", ",ioapic2=off", ",isa-serial=off", ",x-option-roms=off"),
        .. Each("memory", X86, "-M q35", "-m 16", "-m 24", "-m 16,slots=2,maxmem=64M", "-m 16,slots=4,maxmem=64M", "-m 16,slots=4,maxmem=128M"),
        .. Each("processors", X86, "-M q35 -m 16", "-smp 1", "-smp 2", "-smp 4", "-smp 1,maxcpus=2", "-smp 1,maxcpus=4", "-smp 2,sockets=2"),
        .. Each("configuration", X86, "-M q35 -m 16", "", "-uuid 11112222-3333-4444-5555-666677778888", "-machine dump-guest-core=off", "-name other", "-rtc base=localtime"),
        .. Each("configuration", X86, "-M q35,memory-backend=m0 -m 16", "-object memory-backend-ram,id=m0,size=16M", "-object memory-backend-memfd,id=m0,size=16M,share=on", "-object memory-backend-memfd,id=m0,size=16M"),
        .. Each("firmware", X86, "-M pc -m 16", "", "-bios bios-256k.bin", "-bios bios-microvm.bin", "-bios bios.bin"),
        .. Star("globals", X86, "-M q35 -m 16 -device e1000 ", "", "-global e1000.extra_mac_registers=off", "-global migration.send-section-footer=off", "-global migration.store-global-state=off", "-global hpet.timers=4", "-global ICH9-LPC.disable_s3=1", "-global ICH9-LPC.noreboot=off", "-global ICH9-LPC.x-smi-broadcast=off", "-global mch.extended-tseg-mbytes=0", "-global mc146818rtc.base_year=2000", "-global apic-common.vapic=off", "-global ioapic.version=0x11", "-global fw_cfg.x-file-slots=16", "-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"),
    ];

    private static IEnumerable<TruthPair> DevicePairs() =>
    [
        .. Devices("xhci", "qemu-xhci", "qemu-xhci,p2=8", "qemu-xhci,p3=8", "nec-usb-xhci", "nec-usb-xhci,p3=8", "qemu-xhci,msi=off", "qemu-xhci,msix=off"),
        .. Devices("msix", $"virtio-blk-pci,drive=d {Disk}", $"virtio-blk-pci,drive=d,vectors=3 {Disk}", $"virtio-blk-pci,drive=d,vectors=0 {Disk}", $"virtio-blk-pci,drive=d,num-queues=4 {Disk}", $"virtio-blk-pci,drive=d,queue-size=128 {Disk}", $"virtio-blk-pci,drive=d,disable-legacy=on {Disk}", $"virtio-blk-pci,drive=d,disable-modern=on {Disk}"),
        .. Devices("virtio-net", "virtio-net-pci", "virtio-net-pci,mq=on", "virtio-net-pci,vectors=4", "virtio-net-pci,rx_queue_size=1024", "virtio-net-pci,speed=100,duplex=full", "virtio-net-pci,host_mtu=1500", "virtio-net-pci,guest_announce=off", "virtio-net-pci,ctrl_vq=off", "virtio-net-pci,rss=on", "virtio-net-pci,mac=52:54:00:12:34:99"),
        .. Devices("virtio-scsi", "virtio-scsi-pci", "virtio-scsi-pci,num_queues=4", "virtio-scsi-pci,max_sectors=1", "virtio-scsi-pci,cmd_per_lun=4", "virtio-scsi-pci,virtqueue_size=64"),
        .. Devices("virtio-serial", "virtio-serial-pci", "virtio-serial-pci,max_ports=4", "virtio-serial-pci -device virtserialport", "virtio-serial-pci -device virtconsole", "virtio-serial-pci -device virtserialport -device virtserialport", "virtio-serial-pci -device virtserialport,nr=3"),
        .. Devices("virtio other", "virtio-balloon-pci", "virtio-balloon-pci,free-page-reporting=on", "virtio-balloon-pci,deflate-on-oom=on", "virtio-rng-pci", "virtio-rng-pci,max-bytes=1", "virtio-keyboard-pci", "virtio-mouse-pci", "virtio-tablet-pci"),
        .. Devices("virtio-gpu", "virtio-gpu-pci", "virtio-gpu-pci,max_outputs=4", "virtio-gpu-pci,edid=off", "virtio-vga", "virtio-vga,max_outputs=4", "virtio-gpu-pci,xres=800"),
        .. Devices("bridge", "pcie-root-port,slot=1,chassis=1", "pcie-root-port,slot=2,chassis=1", "pcie-root-port,slot=1,chassis=2", "pcie-root-port,slot=1,chassis=1,hotplug=off", "pcie-root-port,slot=1,chassis=1,x-speed=2_5", "pcie-root-port,slot=1,chassis=1,port=3", "ioh3420,slot=1,chassis=1", "pci-bridge,chassis_nr=1", "pci-bridge,chassis_nr=2", "pci-bridge,chassis_nr=1,msi=off", "pci-bridge,chassis_nr=1,shpc=on", "x3130-upstream", "i82801b11-bridge", "pcie-pci-bridge", "pcie-root-port,slot=1,chassis=1,aer_log_max=16", "pcie-root-port,slot=1,chassis=1,bus-reserve=4", "pcie-root-port,slot=1,chassis=1,io-reserve=4096", "pcie-root-port,slot=1,chassis=1,disable-acs=on"),
        .. Devices("network", "e1000", "e1000-82545em", "e1000-82544gc", "e1000e", "e1000e,subsys=5", "e1000e,subsys_ven=5", "igb", "rtl8139", "ne2k_pci", "pcnet", "i82550", "i82557b", "vmxnet3", "tulip"),
        .. Devices("storage", "ich9-ahci", "lsi53c895a", "lsi53c810", "megasas", "megasas-gen2", "megasas,max_cmds=128", "megasas,use_jbod=on", "mptsas1068", "pvscsi", "pvscsi,use_msg=off", "am53c974", "dc390", "sdhci-pci", "piix3-ide", "piix4-ide", "sdhci-pci,capareg=0x5e80080"),
        .. Devices("graphics", "VGA", "VGA,vgamem_mb=32", "VGA,edid=off", "VGA,mmio=off", "cirrus-vga", "cirrus-vga,vgamem_mb=16", "bochs-display", "bochs-display,vgamem=32M", "vmware-svga", "vmware-svga,vgamem_mb=32", "secondary-vga", "ati-vga", "ramfb"),
        .. Devices("sound", "intel-hda", "intel-hda,msi=off", "ich9-intel-hda", "intel-hda,debug=1", "intel-hda -audiodev none,id=a -device hda-duplex,audiodev=a", "intel-hda -audiodev none,id=a -device hda-output,audiodev=a", "AC97,audiodev=a -audiodev none,id=a", "ES1370,audiodev=a -audiodev none,id=a", "intel-hda -audiodev none,id=a -device hda-duplex,audiodev=a,mixer=off"),
        .. Devices("usb", "qemu-xhci -device usb-tablet", "qemu-xhci -device usb-kbd", "qemu-xhci -device usb-mouse", "qemu-xhci -device usb-tablet,usb_version=1", "qemu-xhci -device usb-hub", "qemu-xhci -device usb-tablet,port=3", $"qemu-xhci -device usb-storage,drive=d {Disk}", "ich9-usb-ehci1", "usb-ehci", "pci-ohci", "pci-ohci,num-ports=6", "piix3-usb-uhci", "ich9-usb-uhci1", "qemu-xhci -device usb-hub,ports=4"),
        .. Devices("scsi disk", $"virtio-scsi-pci -device scsi-hd,drive=d {Disk}", "virtio-scsi-pci -device scsi-cd", $"virtio-scsi-pci -device scsi-hd,drive=d,scsi-id=3 {Disk}", "lsi53c895a -device scsi-cd", $"ide-hd,drive=d {Disk}", "ide-cd", $"ide-hd,drive=d,bus=ide.2 {Disk}", $"ide-hd,drive=d,unit=0 {Disk}"),
        .. Devices("other", "edu", "i6300esb", "ib700", "pvpanic-pci", "pvpanic", "vmcoreinfo", "vmgenid", "isa-serial", "pci-serial -chardev null,id=n", "isa-debugcon,chardev=n -chardev null,id=n", "pci-testdev", "isa-parallel,chardev=n -chardev null,id=n", "acpi-erst,memdev=e -object memory-backend-ram,id=e,size=64K", "intel-iommu", "virtio-iommu-pci", "hyperv-testdev", "ipmi-bmc-sim,id=b -device isa-ipmi-kcs,bmc=b", "pcie-root-port,id=r -device e1000e,bus=r"),
        .. Devices("address", "e1000,addr=3", "e1000,addr=4", "e1000,addr=3,multifunction=on", "e1000,addr=3,romfile=", "e1000,addr=3,rombar=0", "e1000,addr=3,romsize=1048576"),
    ];

    private static IEnumerable<TruthPair> CpuPairs() =>
    [
        .. Each("x86 processor", X86, "-M q35 -m 16 -cpu", "qemu64", "max", "Nehalem", "Skylake-Server", "EPYC", "486", "qemu64,+x2apic", "qemu64,-apic", "max,pmu=on", "qemu32"),
        .. Each("arm processor", "qemu-system-aarch64", "-M virt -m 16 -cpu", "cortex-a57", "cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1", "neoverse-v1", "cortex-a710", "max", "cortex-a15", "cortex-a57,pmu=off", "max,sve=off", "max,pauth=off", "max,sve128=on", "cortex-a57,aarch64=on", "max,pauth-impdef=on", "cortex-a55"),
        .. Each("ppc processor", "qemu-system-ppc64-trixie", "-M pseries -m 256 -cpu", "power8", "power8e", "power9", "power10", "power9_v2.2", "power8nvl"),
        .. Each("s390x processor", "qemu-system-s390x-trixie", "-M s390-ccw-virtio -m 16 -cpu", "qemu", "max", "z900"),
        .. Each("riscv processor", "qemu-system-riscv64-trixie", "-M virt -bios none -m 16 -cpu", "rv64", "max", "rva22s64", "thead-c906", "sifive-u54", "rv64,v=true", "rv64,h=false", "rv64,pmp=false"),
    ];

    private static IEnumerable<TruthPair> BoardPairs() =>
    [
        .. Star("arm board", "qemu-system-aarch64", "-m 16 -cpu max -M ", "virt", "virt,gic-version=3", "virt,its=off,gic-version=3", "virt,secure=on", "virt,virtualization=on", "virt,highmem=off", "virt,mte=on", "virt,iommu=smmuv3", "virt,acpi=off", "virt-9.0", "virt -smp 2"),
        .. Ring("arm board", "qemu-system-aarch64", "-M raspi3b", "-M raspi2b", "-M sbsa-ref -m 64", "-M ast2500-evb", "-M lm3s6965evb", "-M musca-a", "-M netduino2", "-M orangepi-pc", "-M microbit", "-M mps2-an385"),
        .. Star("ppc board", "qemu-system-ppc64-trixie", "-m 256 -M ", "pseries", "pseries,cap-cfpc=broken", "pseries,cap-sbbc=broken", "pseries,cap-ibs=broken", "pseries,cap-large-decr=off", "pseries,cap-ccf-assist=off", "pseries,ic-mode=xics", "pseries,cap-nested-hv=on", "pseries,max-cpu-compat=power8", "pseries -smp 2", "pseries-9.0", "ppce500", "pseries,kvm-type=HV", "mac99", "pseries,cap-fwnmi=off"),
        .. Star("s390x board", "qemu-system-s390x-trixie", "-m 16 -M s390-ccw-virtio", "", ",aes-key-wrap=off", ",dea-key-wrap=off", " -smp 2", " -device virtio-net-ccw", " -device virtio-net-ccw,devno=fe.0.0005", $" {Disk} -device virtio-blk-ccw,drive=d", " -device virtio-balloon-ccw", " -device sclpconsole,chardev=n -chardev null,id=n", " -device virtio-rng-ccw"),
        .. Star("riscv board", "qemu-system-riscv64-trixie", "-bios none -m 16 -M ", "virt", "virt,aia=aplic", "virt,aia=aplic-imsic", "virt,aclint=on", "virt -smp 2", "virt,acpi=off", "spike", "sifive_u", "virt,aia=aplic-imsic,aia-guests=2", "virt,iommu-sys=on"),
        .. Star("arm device", "qemu-system-aarch64", "-M virt -cpu cortex-a57 -m 16 ", "", "-device virtio-net-pci", "-device virtio-net-device", "-device virtio-gpu-pci", "-device qemu-xhci", "-device pcie-root-port", "-device virtio-rng-device", "-device ramfb", "-device virtio-net-pci,vectors=4"),
    ];

    private static IEnumerable<TruthPair> ReleasePairs()
    {
        string[] machines = ["-M pc-q35-7.2", "-M pc-i440fx-7.2"];
        string[] devices =
        [
            "", "-device e1000e", "-device e1000", "-device sdhci-pci", "-device qemu-xhci", "-device am53c974", "-device virtio-net-pci", "-device virtio-scsi-pci", $"-device virtio-blk-pci,drive=d {Disk}", "-device virtio-gpu-pci", "-device VGA", "-device vmware-svga", "-device cirrus-vga",
            "-device intel-hda", "-device ich9-usb-ehci1", "-device pci-ohci", "-device lsi53c895a", "-device megasas", "-device mptsas1068", "-device pvscsi", "-device vmxnet3", "-device rtl8139", "-device virtio-serial-pci", "-device virtio-balloon-pci", "-device pci-bridge,chassis_nr=1", "-device ich9-ahci", "-device virtio-keyboard-pci", "-device virtio-rng-pci", "-device i6300esb", "-device tulip", "-device pcnet", "-m 16,maxmem=128M -device virtio-mem-pci,memdev=v -object memory-backend-ram,id=v,size=16M", "-smp 2", "-device usb-ehci -device usb-tablet", "-device qemu-xhci -device usb-kbd", "-device isa-serial", "-device ati-vga", "-device ES1370,audiodev=a -audiodev none,id=a", "-device AC97,audiodev=a -audiodev none,id=a", "-device edu", "-device virtio-iommu-pci", "-device intel-iommu", "-device ib700 -device vmcoreinfo -device vmgenid", "-device pcie-root-port",
        ];
        foreach (string device in devices)
        {
            string machine = device.Contains("pcie-", StringComparison.Ordinal) || device.Contains("iommu", StringComparison.Ordinal) ? machines[0] : machines[Math.Abs(device.Length) % 2];
            foreach (var pair in Across("releases", X86, $"{machine} -m 16 {device}", Releases))
            {
                yield return pair;
            }
        }

        string[] newer = ["", "-trixie", "-newer"];
        IEnumerable<TruthPair> more =
        [
            .. Across("releases", X86, "-M pc-q35-10.0 -m 16 -device igb -device virtio-net-pci -device qemu-xhci", newer),
            .. Across("releases", X86, "-M pc-q35-10.0 -m 16,slots=4,maxmem=64M -smp 2 -device e1000e", newer),
            .. Across("releases", X86, "-M microvm -m 16 -device virtio-net-device -device virtio-rng-device", Releases),
            .. Across("releases", X86, "-M q35 -m 16", Releases),
            .. Across("releases", X86, "-M pc-i440fx-2.6 -m 16", Releases),
            .. Across("releases", X86, "-M pc-q35-4.0 -m 16 -device e1000e -device virtio-net-pci", Releases),
            .. Across("releases of arm", "qemu-system-aarch64", "-M virt-7.2 -cpu cortex-a57 -m 16", ["-older", "", "-trixie"]),
            .. Across("releases of arm", "qemu-system-aarch64", "-M virt-7.2,gic-version=3 -cpu cortex-a57 -m 16 -device virtio-net-pci -device qemu-xhci", ["-older", "", "-trixie"]),
            .. Across("releases of arm", "qemu-system-aarch64", "-M virt-7.2 -cpu max -m 16", ["-older", "", "-trixie"]),
            .. Across("releases of arm", "qemu-system-aarch64", "-M virt-6.0 -cpu cortex-a72 -smp 2 -m 16", ["-older", "", "-trixie"]),
            .. Across("releases of arm", "qemu-system-aarch64", "-M raspi3b", ["-older", "", "-trixie"]),
            .. Across("releases of arm", "qemu-system-aarch64", "-M ast2600-evb", ["-older", "", "-trixie"]),
            .. Across("releases of arm", "qemu-system-aarch64", "-M musca-b1", ["-older", "", "-trixie"]),
            .. Across("releases of ppc", "qemu-system-ppc64", "-M pseries-7.2 -cpu power9 -m 256", TwoReleases),
            .. Across("releases of ppc", "qemu-system-ppc64", "-M pseries-7.2 -cpu power8 -m 256 -device virtio-net-pci -device VGA", TwoReleases),
            .. Across("releases of ppc", "qemu-system-ppc64", "-M mac99 -m 64", TwoReleases),
            .. Across("releases of s390x", "qemu-system-s390x", "-M s390-ccw-virtio-7.2 -m 16", TwoReleases),
            .. Across("releases of s390x", "qemu-system-s390x", "-M s390-ccw-virtio-7.2 -m 16 -device virtio-net-ccw -device virtio-rng-ccw -smp 2", TwoReleases),
            .. Across("releases of riscv", "qemu-system-riscv64", "-M virt -bios none -m 16", TwoReleases),
            .. Across("releases of riscv", "qemu-system-riscv64", "-M spike -bios none -m 16", TwoReleases),
            .. Across("releases of riscv", "qemu-system-riscv64", "-M sifive_u -bios none -m 128", TwoReleases),
        ];
        foreach (var pair in more)
        {
            yield return pair;
        }
    }

    // What a firmware did to a VM before it was saved, against the same command line before it ran; and each against another one.
    private static IEnumerable<TruthPair> BootedPairs()
    {
        string[] lines =
        [
            "-M pc -m 32", "-M q35 -m 32", "-M pc -m 32 -device VGA -device e1000", $"-M q35 -m 32 -device virtio-blk-pci,drive=d {Disk}", "-M q35 -m 32 -device VGA -device virtio-net-pci", $"-M pc -m 32 -device ide-hd,drive=d {Disk}", "-M q35 -m 32 -device qemu-xhci -device usb-tablet", $"-M q35 -m 32 -device virtio-scsi-pci -device scsi-hd,drive=d {Disk}",
            "-M q35 -m 32 -smp 2 -device pcie-root-port,slot=1,chassis=1 -device e1000e", "-M pc -m 32 -device lsi53c895a -device scsi-cd", $"-M pc -m 32 -device usb-ehci -device usb-storage,drive=d {Disk}", "-M pc -m 32 -device cirrus-vga -device isa-serial -device ide-cd", "-M q35 -m 32 -device virtio-vga -device intel-hda", $"-M q35 -m 32 -device megasas -device scsi-hd,drive=d {Disk}", "-M pc -m 32 -device pci-ohci -device usb-kbd -device rtl8139",
        ];
        foreach (string line in lines)
        {
            var booted = new CommandLine(X86, CommandLine.Booted + line);
            var fresh = new CommandLine(X86, line);
            yield return new("booted", booted, fresh);
            yield return new("booted", fresh, booted with { Arguments = line });
            yield return new("booted", booted, fresh.On("-trixie"));
            yield return new("booted", booted.On("-newer"), fresh.On("-newer"));
        }

        string[] others = ["-M q35 -m 32 -device virtio-net-pci,vectors=4", "-M q35 -m 32 -device VGA,vgamem_mb=32", "-M q35 -m 32 -device e1000e", "-M q35 -m 32 -device VGA -device virtio-net-pci,mq=on", "-M q35 -m 32 -device VGA -device virtio-net-pci,mac=52:54:00:00:00:01"];
        foreach (var pair in Each("booted", X86, "", others))
        {
            yield return pair with { Source = pair.Source with { Arguments = CommandLine.Booted + pair.Source.Arguments.Trim() } };
        }
    }

    // Each with the next, whatever it is, and with every one of its own type.
    private static IEnumerable<TruthPair> Devices(string kind, params string[] devices)
    {
        var pairs = Each(kind, X86, "-M q35 -m 16", [.. devices.Select(d => $"-device {d}")]).ToList();
        return pairs.Where((_, i) =>
        {
            int a = i / devices.Length, b = i % devices.Length;
            return b == a || b == (a + 1) % devices.Length || TypeOf(devices[a]) == TypeOf(devices[b]);
        });

        static string TypeOf(string device) => device.Split(',', ' ')[0];
    }

    /// <summary>Every variant with every other one, and with itself.</summary>
    private static IEnumerable<TruthPair> Each(string kind, string program, string common, params string[] variants)
    {
        var lines = variants.Select(v => new CommandLine(program, Join(common, v))).ToList();
        return lines.SelectMany(a => lines.Select(b => new TruthPair(kind, a, b)));
    }

    /// <summary>The first variant with every other one, both ways.</summary>
    private static IEnumerable<TruthPair> Star(string kind, string program, string common, params string[] variants)
    {
        var lines = variants.Select(v => new CommandLine(program, common + v)).ToList();
        return lines.Skip(1).SelectMany(b => new[] { new TruthPair(kind, lines[0], b), new TruthPair(kind, b, lines[0]) });
    }

    /// <summary>Every command line with itself and with the next.</summary>
    private static IEnumerable<TruthPair> Ring(string kind, string program, params string[] variants)
    {
        var lines = variants.Select(v => new CommandLine(program, v)).ToList();
        return lines.SelectMany((a, i) => new[] { new TruthPair(kind, a, a), new TruthPair(kind, a, lines[(i + 1) % lines.Count]) });
    }

    private static IEnumerable<TruthPair> Across(string kind, string program, string arguments, string[] releases)
    {
        var lines = releases.Select(r => new CommandLine(program, arguments).On(r)).ToList();
        return lines.SelectMany(a => lines.Select(b => new TruthPair(kind, a, b)));
    }

    private static string Join(string common, string variant) => variant.StartsWith(',') ? common + variant : $"{common} {variant}".Trim();
}
