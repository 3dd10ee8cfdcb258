namespace MigrationOps.Engine.Preflight;

/// <summary>Disks: that the target reads and writes what the guest has written.</summary>
internal static class StorageChecks
{
    internal static IEnumerable<PreflightCheck> All =>
    [
        new("DiskReach", QemuCheckGroup.Storage, DiskReach),
        new("CacheMode", QemuCheckGroup.Storage, CacheMode),
    ];

    private static Finding? DiskReach(PreflightFacts facts)
    {
        if (facts.Target is not { } target)
        {
            return null;
        }

        if (facts.Source["query-block"] is null || target["query-block"] is null)
        {
            return Finding.Unknown("One side does not list its disks.");
        }

        var (here, there) = (Located(facts.Source), Located(target));
        var differences = new List<QemuMigrationDifference>();
        foreach (var (location, disk) in here)
        {
            if (!there.TryGetValue(location, out var other))
            {
                differences.Add(Finding.Difference(QemuCheckStatus.Blocker, Label(disk), Shown(disk), null));
            }
            else if (disk.VirtualBytes is { } size && other.VirtualBytes is { } sizeThere && size != sizeThere)
            {
                differences.Add(Finding.Difference(sizeThere < size ? QemuCheckStatus.Blocker : QemuCheckStatus.Warning, Label(disk) + " size", MemoryChecks.Bytes(size), MemoryChecks.Bytes(sizeThere)));
            }
            else if (!facts.Options.CopyDisk && Compare(disk, other, facts) is { } status)
            {
                differences.Add(Finding.Difference(status, Label(disk), Shown(disk), Shown(other)));
            }
        }

        return Finding.Of(differences, worst => worst[0].Status switch
        {
            QemuCheckStatus.Blocker when worst[0].Target.Length == 0 => $"The target has no medium in {worst[0].Name}.",
            QemuCheckStatus.Blocker when worst[0].Name.EndsWith("size", StringComparison.Ordinal) => $"{worst[0].Name}: the target's disk is smaller than the guest's.",
            QemuCheckStatus.Blocker => $"{worst[0].Name} is another file on the target: the guest would find other data.",
            QemuCheckStatus.Unknown => $"Whether {worst[0].Name} is the same file on both sides cannot be seen from here.",
            _ => "Disks differ.",
        }, worst => worst[0].Status == QemuCheckStatus.Unknown ? "Compare what both hosts have: stat FILE (file system and inode), or the WWN of the device." : $"Start the target with the source's file {worst[0].Source}, or copy the disks with the VM.");
    }

    private static Dictionary<string, DiskFacts> Located(QemuFacts qemu)
    {
        var devices = DeviceFacts.Of(qemu)?.Values.ToDictionary(device => device.Object.Path, device => device.Location, StringComparer.Ordinal);
        var disks = new Dictionary<string, DiskFacts>(StringComparer.Ordinal);
        foreach (var disk in DiskFacts.Of(qemu))
        {
            // A virtio device's frontend is what lies behind its bus; and a name may be all there is.
            disks.TryAdd(devices?.GetValueOrDefault(disk.Device) ?? disk.Device, disk);
        }

        return disks;
    }

    private static QemuCheckStatus? Compare(DiskFacts disk, DiskFacts other, PreflightFacts facts)
    {
        if (disk.File.Length == 0 || other.File.Length == 0 || IsNothing(disk.File))
        {
            return null;
        }

        if (facts.SourceFiles.TryGetValue(disk.File, out var file) && facts.TargetFiles.TryGetValue(other.File, out var fileThere))
        {
            return (file.Device, file.Inode) == (fileThere.Device, fileThere.Inode) ? null : QemuCheckStatus.Blocker;
        }

        return disk.File == other.File && disk.File.Contains("://", StringComparison.Ordinal) ? null : QemuCheckStatus.Unknown;
    }

    // A disk without content has no wrong one.
    private static bool IsNothing(string file) => file.StartsWith("null-co:", StringComparison.Ordinal) || file.StartsWith("null-aio:", StringComparison.Ordinal) || file.StartsWith("json:{\"driver\": \"null", StringComparison.Ordinal);

    private static string Label(DiskFacts disk) => disk.Device.Split('/').LastOrDefault(part => part is not "" and not "virtio-backend" and not "virtio-bus") ?? disk.Node;

    private static string Shown(DiskFacts disk) => disk.File.Length == 0 ? disk.Node : disk.File;

    private static Finding? CacheMode(PreflightFacts facts)
    {
        // On one host both sides see one page cache.
        if (facts.Target?.Process is not null || facts.Options.CopyDisk)
        {
            return null;
        }

        var cached = DiskFacts.Of(facts.Source).Where(disk => disk is { IsDirect: false, IsReadOnly: false, File.Length: > 0 } && !IsNothing(disk.File)).ToArray();
        return cached.Length == 0 ? Finding.Passed()
            : Finding.Warning($"{Label(cached[0])} goes through the page cache of its host (cache.direct is off): on storage without coherent caches the target may read old data.", "Start the VM with cache=none for its disks, or make sure that the storage keeps caches coherent.").Of("cache.direct=off", null);
    }
}
