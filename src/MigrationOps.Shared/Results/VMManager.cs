namespace MigrationOps;

/// <summary>What started a VM and manages it.</summary>
public enum VMManager
{
    /// <summary>Nothing that is known here: a script, a systemd unit, a person.</summary>
    None,

    /// <summary>libvirt, which is connected to the VM's monitor for as long as the VM runs.</summary>
    Libvirt,

    /// <summary>Proxmox VE, which connects to the VM's monitor for every command.</summary>
    Proxmox,
}
