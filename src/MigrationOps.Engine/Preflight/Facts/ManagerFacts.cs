using System.Globalization;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>What manages a VM, and what of the manager's own files decides about a migration.</summary>
internal sealed record ManagerFacts
{
    /// <summary>Which one.</summary>
    internal required VMManager Kind { get; init; }

    /// <summary>How many snapshots libvirt has of it; null if that cannot be seen.</summary>
    internal int? Snapshots { get; init; }

    /// <summary>Proxmox VE's number of it.</summary>
    internal string? ProxmoxId { get; init; }

    /// <summary>Proxmox VE's configuration of it; null if that cannot be seen.</summary>
    internal string? ProxmoxConfig { get; init; }

    /// <summary>Reads them.</summary>
    /// <param name="kind">The manager.</param>
    /// <param name="name">The name of the VM.</param>
    /// <param name="arguments">With which its QEMU was started.</param>
    internal static ManagerFacts Read(VMManager kind, string? name, IReadOnlyList<string> arguments)
    {
        string? id = kind == VMManager.Proxmox && arguments.ToList().IndexOf("-id") is >= 0 and var at ? arguments.ElementAtOrDefault(at + 1) : null;
        return new ManagerFacts
        {
            Kind = kind,
            Snapshots = kind == VMManager.Libvirt && name is not null ? CountSnapshots($"/var/lib/libvirt/qemu/snapshot/{name}") : null,
            ProxmoxId = id,
            ProxmoxConfig = int.TryParse(id, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? TryRead(string.Create(CultureInfo.InvariantCulture, $"/etc/pve/qemu-server/{number}.conf")) : null,
        };
    }

    // libvirt makes a domain's folder with its first snapshot; the folder above is there when there is a libvirt.
    private static int? CountSnapshots(string folder)
    {
        try
        {
            return Directory.Exists(folder) ? Directory.GetFiles(folder, "*.xml").Length : Directory.Exists(Path.GetDirectoryName(folder)) ? 0 : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string? TryRead(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
