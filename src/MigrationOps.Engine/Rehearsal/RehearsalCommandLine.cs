using System.Globalization;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>
/// Turns the command line of a destination's QEMU into one that loads the same stream and touches nothing: disks become null
/// devices of the same size, network back-ends a tap in an empty network namespace, memory is private, character devices lead
/// nowhere, and every monitor, display and log goes. What a device's state depends on stays as it is.
/// </summary>
internal sealed class RehearsalCommandLine
{
    // Gone with their values: what talks to the outside, what we give ourselves, what only a running guest needs.
    private static readonly HashSet<string> Dropped =
    [
        "D", "S", "add-fd", "chroot", "d", "daemonize", "debugcon", "device-log", "display", "dfilter", "full-screen", "gdb", "icount-log",
        "incoming", "loadvm", "mem-path", "mem-prealloc", "mon", "monitor", "nographic", "perfmap", "pidfile", "plugin", "preconfig", "qmp",
        "qmp-pretty", "qtest", "qtest-log", "run-with", "runas", "s", "sandbox", "sdl", "seed", "set", "snapshot", "trace", "vnc", "watchdog-log",
    ];

    private static readonly HashSet<string> DiskShorthands =
        ["", "cdrom", "fda", "fdb", "hda", "hdb", "hdc", "hdd", "mtdblock", "pflash", "sd"];

    // They need hardware or a process of the destination's VM, and their state cannot be loaded without.
    private static readonly string[] NotAvailable =
    [
        "vfio-", "vhost-scsi", "vhost-user-", "vhost-vsock", "vhost-vdpa", "ivshmem-doorbell", "usb-host", "scsi-block", "scsi-generic",
        "virtio-gpu-gl", "virtio-vga-gl", "virtio-gpu-rutabaga", "virtio-vga-rutabaga", "x-vfio-user", "x-pci-proxy-dev",
    ];

    private readonly List<QemuOption> _result = [];
    private readonly List<string> _notes = [];
    private readonly List<QemuOption> _options;
    private readonly DiskSizes _disks;
    private readonly bool _keepShared;

    private RehearsalCommandLine(List<QemuOption> options, string workingDirectory, bool keepShared)
    {
        _options = options;
        _disks = new DiskSizes(options, workingDirectory, _notes);
        _keepShared = keepShared;
    }

    /// <summary>What was changed in a way that the verdict depends on.</summary>
    internal IReadOnlyList<string> Notes => _notes;

    /// <summary>The arguments of the rehearsing QEMU, without its monitor and <c>-incoming</c>.</summary>
    internal IReadOnlyList<string> Arguments => [.. QemuCommandLine.ToArguments(_result)];

    /// <summary>Transforms a command line.</summary>
    /// <param name="arguments">The destination's arguments.</param>
    /// <param name="workingDirectory">What relative paths of disks count from.</param>
    /// <param name="keepShared">True if the stream leaves shared memory out (x-ignore-shared), so that such memory has to be shared here too.</param>
    /// <exception cref="RehearsalException">A device that is not available here, or a malformed command line.</exception>
    internal static RehearsalCommandLine Create(IReadOnlyList<string> arguments, string workingDirectory, bool keepShared)
    {
        var line = new RehearsalCommandLine(QemuCommandLine.Parse(arguments), workingDirectory, keepShared);
        line.Transform();
        return line;
    }

    private void Transform()
    {
        foreach (var option in _options)
        {
            switch (option.Name)
            {
                case "readconfig":
                    throw new RehearsalException(RehearsalError.InvalidCommandLine,
                        $"The command line takes options from the file '{option.Value}' (-readconfig).",
                        action: "Give the options of that file as arguments: a rehearsal has to see every disk and back-end.");
                case "drive":
                    AddDrive(OptionProperties.Parse(option.Value!, "file"));
                    break;
                case "blockdev":
                    AddBlockdev(OptionProperties.Parse(option.Value!, "driver"));
                    break;
                case var name when DiskShorthands.Contains(name):
                    AddShorthand(name, option.Value!);
                    break;
                case "netdev":
                    AddNetdev(OptionProperties.Parse(option.Value!, "type"));
                    break;
                case "nic" or "net":
                    AddNic(option.Name, OptionProperties.Parse(option.Value!, "type"));
                    break;
                case "chardev":
                    AddNullChardev(OptionProperties.Parse(option.Value!, "backend"));
                    break;
                case "serial" or "parallel" or "virtioconsole":
                    Add(option.Name, option.Value == "none" || option.Value!.StartsWith("chardev:", StringComparison.Ordinal) ? option.Value : "null");
                    break;
                case "object":
                    AddObject(OptionProperties.Parse(option.Value!, "qom-type"));
                    break;
                case "audiodev":
                    Add("audiodev", $"none,id={OptionProperties.Parse(option.Value!, "driver")["id"]}");
                    break;
                case "audio":
                    AddAudio(OptionProperties.Parse(option.Value!, "driver"));
                    break;
                case "spice":
                    // qxl needs a server; this one is in the rehearsal's own folder.
                    Add("spice", $"unix=on,addr={SpiceSocket},disable-ticketing=on");
                    break;
                case "tpmdev":
                    throw NotAvailableHere($"the TPM back-end '{option.Value}'");
                case "fsdev" or "virtfs":
                    throw NotAvailableHere($"the shared folder '{option.Value}' (9p); a guest that has it mounted does not migrate");
                case "device":
                    AddDevice(option);
                    break;
                case var name when Dropped.Contains(name):
                    break;
                default:
                    _result.Add(option);
                    break;
            }
        }

        Add("display", "none");
        _result.Add(new QemuOption("S"));
    }

    /// <summary>Stands in the arguments for the path of a socket in the rehearsal's own folder.</summary>
    internal const string SpiceSocket = "@FOLDER@/spice.sock";

    private void AddDrive(OptionProperties drive)
    {
        if (drive["file"] is null && drive["file.driver"] is null && drive["driver"] is null && drive["file.filename"] is null)
        {
            // An empty drive has no medium.
            _result.Add(new QemuOption("drive", drive.ToString()));
            return;
        }

        long size = _disks.SizeOfDrive(drive);
        drive.Remove(name => !IsFrontendMember(name));
        drive.Set("driver", "null-co");
        drive.Set("size", size.ToString(CultureInfo.InvariantCulture));
        drive.Set("read-zeroes", "on");
        Add("drive", drive.ToString());
    }

    // What tells a drive's device and not its image.
    private static bool IsFrontendMember(string name) => name is "if" or "id" or "index" or "bus" or "unit" or "media"
        or "readonly" or "read-only" or "werror" or "rerror" or "node-name" or "detect-zeroes";

    private void AddBlockdev(OptionProperties node)
    {
        string size = _disks.SizeOfNode(node).ToString(CultureInfo.InvariantCulture);
        string readOnly = node.IsOn("read-only") ? ",read-only=on" : "";
        Add("blockdev", $"driver=null-co,node-name={node["node-name"]},size={size},read-zeroes=on{readOnly}");
        // A node that another one describes inside itself can be named by devices as well.
        foreach (var (name, value) in node.Members.Where(m => m.Key.EndsWith(".node-name", StringComparison.Ordinal)))
        {
            Add("blockdev", $"driver=null-co,node-name={value},size={size},read-zeroes=on{readOnly}");
        }
    }

    private void AddShorthand(string name, string path)
    {
        string place = name switch
        {
            "cdrom" => "index=2,media=cdrom",
            "fda" => "if=floppy,index=0",
            "fdb" => "if=floppy,index=1",
            "mtdblock" => "if=mtd",
            "pflash" => "if=pflash",
            "sd" => "if=sd",
            "hdb" => "index=1",
            "hdc" => "index=2",
            "hdd" => "index=3",
            _ => "index=0",
        };
        AddDrive(OptionProperties.Parse($"{place},file={path.Replace(",", ",,", StringComparison.Ordinal)}", "file"));
    }

    private void AddNetdev(OptionProperties netdev)
    {
        switch (netdev["type"])
        {
            case "vhost-user":
                throw NotAvailableHere($"the vhost-user back-end of the network device '{netdev["id"]}'");
            case "vhost-vdpa":
                throw NotAvailableHere($"the vDPA device of the network device '{netdev["id"]}'");
            case "hubport":
                _result.Add(new QemuOption("netdev", netdev.ToString()));
                break;
            case "user":
                // It has a section of its own in the stream, so it stays; it must not listen.
                netdev.Remove(IsSlirpService);
                Add("netdev", netdev.ToString());
                break;
            default:
                // A tap offers every offload that another back-end may have offered.
                Add("netdev", $"tap,id={netdev["id"]},script=no,downscript=no,vhost=off{QueuesOf(netdev)}");
                break;
        }
    }

    private static bool IsSlirpService(string name)
        => name is "hostfwd" or "guestfwd" or "smb" or "smbserver" or "tftp" or "bootfile" || name.StartsWith("hostfwd.", StringComparison.Ordinal)
            || name.StartsWith("guestfwd.", StringComparison.Ordinal);

    private static string QueuesOf(OptionProperties netdev)
    {
        int count = netdev["queues"] is { } queues ? int.Parse(queues, CultureInfo.InvariantCulture)
            : netdev["fds"] is { } fds ? fds.Split(':').Length
            : netdev["vhostfds"] is { } vhost ? vhost.Split(':').Length
            : 1;
        return count > 1 ? $",queues={count}" : "";
    }

    private void AddNic(string name, OptionProperties nic)
    {
        if (nic["type"] is "none" or "nic" or "hubport")
        {
            Add(name, nic["type"] == "none" ? "none" : Text(nic));
            return;
        }

        bool slirp = nic["type"] == "user";
        nic.Remove(member => slirp ? IsSlirpService(member)
            : member is not ("type" or "model" or "mac" or "id" or "addr" or "name" or "vectors" or "netdev"));
        if (!slirp)
        {
            nic.Set("type", "tap");
            nic.Set("script", "no");
            nic.Set("downscript", "no");
        }

        Add(name, Text(nic));

        // These two options want their type without a name.
        static string Text(OptionProperties nic)
        {
            string all = nic.ToString();
            return all.StartsWith("type=", StringComparison.Ordinal) ? all["type=".Length..] : all;
        }
    }

    private void AddNullChardev(OptionProperties chardev)
        => Add("chardev", $"null,id={chardev["id"]}{(chardev.IsOn("mux") ? ",mux=on" : "")}");

    private void AddObject(OptionProperties made)
    {
        string type = made["qom-type"] ?? "";
        switch (type)
        {
            case "memory-backend-ram" or "memory-backend-file" or "memory-backend-memfd" or "memory-backend-shm":
                string share = _keepShared && made.IsOn("share") ? "memory-backend-memfd,share=on" : "memory-backend-ram";
                string size = made["size"] is { } given ? $",size={given}" : "";
                string oldName = made["x-use-canonical-path-for-ramblock-id"] is { } canonical ? $",x-use-canonical-path-for-ramblock-id={canonical}" : "";
                Add("object", $"{share},id={made["id"]}{size}{oldName}");
                break;
            case "sev-guest" or "sev-snp-guest" or "tdx-guest" or "s390-pv-guest" or "memory-backend-epc" or "cryptodev-vhost-user" or "cryptodev-backend-lkcf":
                throw NotAvailableHere($"the object {type}");
            case "dbus-vmstate":
                throw NotAvailableHere("the object dbus-vmstate, whose state its own helpers load");
            case "input-linux" or "input-barrier" or "pr-manager-helper" or "secret" or "secret_keyring" or "vfio-user-server" or "x-remote-object"
                or "x-vfio-user-server":
                break;
            case var _ when type.StartsWith("tls-creds", StringComparison.Ordinal) || type.StartsWith("authz", StringComparison.Ordinal)
                || type.StartsWith("filter-", StringComparison.Ordinal) || type is "colo-compare":
                break;
            default:
                Add("object", made.ToString());
                break;
        }
    }

    private void AddAudio(OptionProperties audio)
    {
        string model = audio["model"] is { } name ? $",model={name}" : "";
        Add("audio", $"driver=none{model}");
    }

    private void AddDevice(QemuOption option)
    {
        var device = OptionProperties.Parse(option.Value!, "driver");
        string driver = device["driver"] ?? "";
        if (NotAvailable.Any(name => driver.StartsWith(name, StringComparison.Ordinal)))
        {
            throw NotAvailableHere($"the device {driver}{(device["id"] is { } id ? $" '{id}'" : "")}");
        }

        _result.Add(option);
    }

    private void Add(string name, string value) => _result.Add(new QemuOption(name, value));

    private static RehearsalException NotAvailableHere(string what)
        => new(RehearsalError.DeviceNotAvailable, $"A rehearsal cannot have {what}.");
}
