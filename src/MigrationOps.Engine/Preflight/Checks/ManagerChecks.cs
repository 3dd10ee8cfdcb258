using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>
/// What the VM's manager will refuse, whatever QEMU thinks of it: by the rules that libvirt (9.0 and 11.3, tried) and Proxmox VE have for a
/// migration with their own tools.
/// </summary>
internal static class ManagerChecks
{
    // File systems that libvirt takes for shared, and those of them whose caches agree by themselves.
    private static readonly string[] Shared = ["nfs", "cifs", "smb", "smb2", "gfs2", "ocfs2", "ceph", "gpfs", "afs", "glusterfs", "fuse", "fuse.glusterfs", "beegfs"];
    private static readonly string[] Coherent = ["gfs2", "ocfs2", "ceph", "gpfs"];

    internal static IEnumerable<PreflightCheck> All => [new("ManagerWillRefuse", QemuCheckGroup.Manager, ManagerWillRefuse)];

    private static Finding? ManagerWillRefuse(PreflightFacts facts)
    {
        if (facts.Source.Manager is not { Kind: not VMManager.None } manager)
        {
            return null;
        }

        string name = manager.Kind == VMManager.Libvirt ? "libvirt" : "Proxmox VE";
        var rows = (manager.Kind == VMManager.Libvirt ? Libvirt(facts, manager) : Proxmox(manager)).ToArray();
        var finding = Finding.Of([.. rows.Select(row => Finding.Difference(row.Status, row.Name, row.Found, null))],
            worst => worst[0].Status == QemuCheckStatus.Unknown ? $"Whether {name} refuses it cannot be seen from here: {worst[0].Name}." : $"{name} {(worst[0].Status == QemuCheckStatus.Blocker ? "refuses" : "may refuse")} to migrate it: {worst[0].Name}.",
            worst => rows.First(row => row.Name == worst[0].Name).Action);
        return finding with { Source = finding.Source.Length == 0 ? name : finding.Source };
    }

    private static IEnumerable<Row> Libvirt(PreflightFacts facts, ManagerFacts manager)
    {
        string domain = facts.Source.VMName ?? "DOMAIN";
        if (manager.Snapshots is not { } snapshots)
        {
            yield return new Row(QemuCheckStatus.Unknown, "snapshots", "not seen", $"virsh snapshot-list {domain}");
        }
        else if (snapshots > 0)
        {
            yield return new Row(QemuCheckStatus.Blocker, "the domain has snapshots", $"{snapshots}", $"virsh snapshot-delete {domain} --metadata SNAPSHOT, and virsh snapshot-create --redefine on the target afterwards");
        }

        foreach (var job in facts.Source["query-block-jobs"]?.Items() ?? [])
        {
            yield return new Row(QemuCheckStatus.Blocker, "a block job runs", job.Text("device") ?? job.Text("type") ?? "", $"virsh blockjob {domain} DISK --abort");
        }

        if (facts.Source["query-status"]?.Text("status") == "io-error")
        {
            yield return new Row(QemuCheckStatus.Warning, "it is stopped by an I/O error, which --abort-on-error does not allow", "io-error", $"virsh domblkerror {domain}");
        }

        if (facts.Source.Objects is not { } objects)
        {
            yield return new Row(QemuCheckStatus.Unknown, "devices", "not seen", $"virsh dumpxml {domain}");
            objects = [];
        }

        foreach (var found in objects)
        {
            if (OfDevice(found, domain) is { } row)
            {
                yield return row;
            }
        }

        foreach (var disk in facts.Options.CopyDisk ? [] : DiskFacts.Of(facts.Source).Where(disk => disk is { IsReadOnly: false, File: ['/', ..] }))
        {
            if (!facts.SourceFiles.TryGetValue(disk.File, out var file) || file.FileSystem is not { } system)
            {
                yield return new Row(QemuCheckStatus.Unknown, "where its disk lies", disk.File, $"stat -f {disk.File}");
            }
            else if (!Shared.Contains(system))
            {
                yield return new Row(QemuCheckStatus.Blocker, "its disk is not on shared storage (--unsafe overrides)", $"{disk.File} on {system}", $"virsh migrate --copy-storage-all, or move {disk.File} to storage that both hosts reach");
            }
            else if (!Coherent.Contains(system) && disk.IsDirect == false)
            {
                yield return new Row(QemuCheckStatus.Blocker, "its disk has a cache other than none or directsync (--unsafe overrides)", $"{disk.File} on {system}", "cache='none' for the disk, at the next start of the domain");
            }
        }
    }

    private static Row? OfDevice(QomObject found, string domain) => found.Type switch
    {
        "ivshmem-doorbell" => new Row(QemuCheckStatus.Blocker, "shared memory with a server cannot be migrated", found.Path, $"virsh detach-device {domain} shmem.xml"),
        "ivshmem-plain" when found["master"] is not { ValueKind: System.Text.Json.JsonValueKind.String } master || master.GetString() != "on"
            => new Row(QemuCheckStatus.Blocker, "shared memory whose role is not master", found.Path, "role='master' for the shmem device, or detach it"),
        "vhost-user-fs-pci" or "vhost-user-fs-ccw" => new Row(QemuCheckStatus.Warning, "it has virtiofs, with which libvirt 9.0 does not migrate and 11.3 does", found.Path, "virsh version, and update libvirt on both hosts"),
        _ when found.Type.EndsWith("-x86_64-cpu", StringComparison.Ordinal) && found["invtsc"]?.ValueKind == System.Text.Json.JsonValueKind.True
            && (found["tsc-frequency"] is not { ValueKind: System.Text.Json.JsonValueKind.Number } frequency || frequency.GetInt64() == 0)
            => new Row(QemuCheckStatus.Blocker, "its CPU has invtsc without a TSC frequency", found.Type, "<timer name='tsc' frequency='HZ'/> in <clock>, at the next start of the domain"),
        _ => null,
    };

    private static IEnumerable<Row> Proxmox(ManagerFacts manager)
    {
        string id = manager.ProxmoxId ?? "ID";
        string ask = $"pvesh get /nodes/$(hostname)/qemu/{id}/migrate";
        if (manager.ProxmoxConfig is not { } config)
        {
            yield return new Row(QemuCheckStatus.Unknown, "the VM's configuration", "not seen", ask);
            yield break;
        }

        // Sections behind the first are snapshots.
        foreach (string line in config.Split('\n').TakeWhile(line => !line.StartsWith('[')))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon < 0 || line.StartsWith('#'))
            {
                continue;
            }

            string key = line[..colon], value = line[(colon + 1)..].Trim();
            if (OfConfig(key, value, id, ask) is { } row)
            {
                yield return row;
            }
        }
    }

    private static Row? OfConfig(string key, string value, string id, string ask) => key.TrimEnd("0123456789".ToCharArray()) switch
    {
        "lock" => new Row(QemuCheckStatus.Blocker, $"it is locked ({value})", value, $"wait for that task; if it has died: qm unlock {id}"),
        "hostpci" when !value.Contains("mapping=", StringComparison.Ordinal) => new Row(QemuCheckStatus.Blocker, "it has a device of this host", $"{key}: {value}", $"qm set {id} --delete {key}, or a resource mapping that both nodes have"),
        "usb" when value.Contains("host=", StringComparison.Ordinal) && !value.Contains("spice", StringComparison.Ordinal) => new Row(QemuCheckStatus.Blocker, "it has a device of this host", $"{key}: {value}", $"qm set {id} --delete {key}, or a resource mapping that both nodes have"),
        "serial" or "parallel" when value.StartsWith("/dev/", StringComparison.Ordinal) => new Row(QemuCheckStatus.Blocker, "it has a device of this host", $"{key}: {value}", $"qm set {id} --delete {key}"),
        "ide" or "sata" or "scsi" or "virtio" or "efidisk" or "tpmstate" when value.StartsWith("local", StringComparison.Ordinal) && value.Contains("media=cdrom", StringComparison.Ordinal)
            => new Row(QemuCheckStatus.Blocker, "it has a CD of this host in a drive", $"{key}: {value}", $"qm set {id} --{key} none,media=cdrom"),
        "ide" or "sata" or "scsi" or "virtio" or "efidisk" or "tpmstate" when value.StartsWith("local", StringComparison.Ordinal)
            => new Row(QemuCheckStatus.Warning, "it has a disk on this host's own storage", $"{key}: {value}", $"qm migrate {id} NODE --online --with-local-disks; what is allowed: {ask}"),
        _ => null,
    };

    private sealed record Row(QemuCheckStatus Status, string Name, string Found, string Action);
}
