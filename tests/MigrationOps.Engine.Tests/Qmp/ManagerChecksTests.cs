using System.Text.Json;
using MigrationOps.Engine.Preflight;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Tests.Qmp;

/// <summary>What libvirt and Proxmox VE refuse by their own rules, row by row.</summary>
public class ManagerChecksTests
{
    [Theory]
    [InlineData("", "Passed", "")]
    [InlineData("snapshots", "Blocker", "the domain has snapshots")]
    [InlineData("no snapshots seen", "Unknown", "snapshots")]
    [InlineData("job", "Blocker", "a block job runs")]
    [InlineData("io-error", "Warning", "I/O error")]
    [InlineData("local disk", "Blocker", "not on shared storage")]
    [InlineData("unseen disk", "Unknown", "where its disk lies")]
    [InlineData("cached nfs disk", "Blocker", "cache other than none")]
    [InlineData("cached ceph disk", "Passed", "")]
    [InlineData("ivshmem-doorbell", "Blocker", "shared memory with a server")]
    [InlineData("ivshmem-plain", "Blocker", "role is not master")]
    [InlineData("vhost-user-fs-pci", "Warning", "virtiofs")]
    [InlineData("invtsc", "Blocker", "invtsc without a TSC frequency")]
    [InlineData("no objects", "Unknown", "devices")]
    public void Libvirt_refuses_by_its_rules(string what, string status, string detail)
    {
        var objects = new List<QomObject> { Object("/machine/peripheral/a", what.StartsWith("ivshmem", StringComparison.Ordinal) || what == "vhost-user-fs-pci" ? what : "virtio-net-pci", "{}") };
        objects.Add(Object("/machine/unattached/device[0]", "qemu64-x86_64-cpu", what == "invtsc" ? """{"invtsc": true, "tsc-frequency": 0}""" : """{"invtsc": false, "tsc-frequency": 0}"""));
        bool isCached = what.StartsWith("cached", StringComparison.Ordinal);
        string block = """[{"qdev": "d", "inserted": {"node-name": "n", "ro": false, "image": {"filename": "/d.img"}, "cache": {"direct": DIRECT}}}]""".Replace("DIRECT", isCached ? "false" : "true");
        var facts = new PreflightFacts
        {
            Source = Qemu(new ManagerFacts { Kind = VMManager.Libvirt, Snapshots = what == "snapshots" ? 2 : what == "no snapshots seen" ? null : 0 }, new()
            {
                ["query-block"] = block,
                ["query-block-jobs"] = what == "job" ? """[{"type": "mirror", "device": "vda"}]""" : "[]",
                ["query-status"] = what == "io-error" ? """{"status": "io-error"}""" : """{"status": "running"}""",
            }) with
            { Objects = what == "no objects" ? null : objects },
            SourceFiles = what == "unseen disk" ? new Dictionary<string, FileFacts>()
                : new Dictionary<string, FileFacts> { ["/d.img"] = new(1, 2, 3, what.Contains("local", StringComparison.Ordinal) ? "ext3" : what.Contains("ceph", StringComparison.Ordinal) ? "ceph" : "nfs") },
            Options = new PreflightOptions(),
        };
        Expect(facts, status, detail);
        if (what == "local disk")
        {
            Expect(facts with { Options = new PreflightOptions { CopyDisk = true } }, "Passed", "");
        }
    }

    [Theory]
    [InlineData("scsi0: shared:vm-100-disk-0,size=8G\nnet0: virtio=AA:BB,bridge=vmbr0", "Passed", "")]
    [InlineData("lock: backup\n", "Blocker", "it is locked (backup)")]
    [InlineData("hostpci0: 0000:01:00.0,pcie=1", "Blocker", "a device of this host")]
    [InlineData("hostpci0: mapping=gpu,pcie=1", "Passed", "")]
    [InlineData("usb0: host=1234:5678", "Blocker", "a device of this host")]
    [InlineData("usb0: spice", "Passed", "")]
    [InlineData("serial0: /dev/ttyS0", "Blocker", "a device of this host")]
    [InlineData("serial0: socket", "Passed", "")]
    [InlineData("ide2: local:iso/debian.iso,media=cdrom", "Blocker", "a CD of this host")]
    [InlineData("ide2: none,media=cdrom", "Passed", "")]
    [InlineData("scsi0: local-lvm:vm-100-disk-0,size=8G", "Warning", "own storage")]
    [InlineData("[before]\nlock: backup", "Passed", "")]
    [InlineData(null, "Unknown", "configuration")]
    public void Proxmox_refuses_by_its_rules(string? config, string status, string detail)
        => Expect(new PreflightFacts
        {
            Source = Qemu(new ManagerFacts { Kind = VMManager.Proxmox, ProxmoxId = "100", ProxmoxConfig = config }, []),
            Options = new PreflightOptions(),
        }, status, detail);

    [Fact]
    public void A_vm_without_a_manager_has_no_such_row()
        => Assert.Null(Check.Run(new PreflightFacts { Source = Qemu(new ManagerFacts { Kind = VMManager.None }, []), Options = new PreflightOptions() }));

    [Theory]
    [InlineData("-chardev socket,id=charmonitor,fd=22,server=on,wait=off", VMManager.Libvirt)]
    [InlineData("-chardev socket,id=qmp,path=/var/run/qemu-server/100.qmp,server=on,wait=off", VMManager.Proxmox)]
    [InlineData("-qmp unix:/run/vm/a.qmp,server=on", VMManager.None)]
    public void The_manager_is_known_by_what_it_writes_into_the_command_line(string arguments, VMManager manager)
        => Assert.Equal(manager, MonitorManager.OfArguments(arguments.Split(' ')));

    private static PreflightCheck Check => PreflightTest.Checks.Single(check => check.Name == "ManagerWillRefuse");

    private static void Expect(PreflightFacts facts, string status, string detail)
    {
        var found = Check.Run(facts)!;
        Assert.Equal((status, true), (found.Status.ToString(), found.Detail.Contains(detail, StringComparison.Ordinal)));
        Assert.Equal(status == "Passed", found.RecommendedAction.Length == 0);
    }

    private static QemuFacts Qemu(ManagerFacts manager, Dictionary<string, string> answers) => new()
    {
        Name = "unix:/x",
        VMName = "web01",
        Version = new QmpVersion(10, 0, 2, ""),
        Schema = QmpSchema.Read(JsonElement.Parse("[]")),
        Answers = answers.ToDictionary(answer => answer.Key, answer => new QmpAnswer(JsonElement.Parse(answer.Value), null)),
        Manager = manager,
    };

    private static QomObject Object(string path, string type, string properties)
        => new(path, type, JsonElement.Parse(properties).EnumerateObject().ToDictionary(property => property.Name, property => property.Value));
}
