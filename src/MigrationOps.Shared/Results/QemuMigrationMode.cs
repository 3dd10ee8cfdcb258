namespace MigrationOps;

/// <summary>How a VM is migrated.</summary>
public enum QemuMigrationMode
{
    /// <summary>From one QEMU to another, while the guest runs.</summary>
    Normal,

    /// <summary>The same; the rest of memory follows when the guest already runs on the target.</summary>
    Postcopy,

    /// <summary>Into a file, with the guest stopped at the end.</summary>
    File,

    /// <summary>Into a file without the memory, which stays while the host starts its kernel anew.</summary>
    CprReboot,

    /// <summary>To a new QEMU on the same host, which takes over the memory (QEMU 10.0 and later).</summary>
    CprTransfer,

    /// <summary>The QEMU executes another program in its own process (QEMU 10.2 and later).</summary>
    CprExec,
}
