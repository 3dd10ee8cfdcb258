namespace MigrationOps;

/// <summary>A QEMU process of this host that runs a VM, as Find-QemuVM sees it.</summary>
public sealed record QemuVM
{
    /// <summary>The name of the VM (-name); null if it has none.</summary>
    public required string? Name { get; init; }

    /// <summary>Its UUID; null if it has none or it cannot be seen.</summary>
    public required string? Uuid { get; init; }

    /// <summary>Its process id.</summary>
    public required int ProcessId { get; init; }

    /// <summary>What started it and manages it.</summary>
    public required VMManager Manager { get; init; }

    /// <summary>Its state as QEMU calls it; null where no monitor could be asked.</summary>
    public required string? State { get; init; }

    /// <summary>Its machine type with the version, as QEMU calls it or as its command line has it; null if unknown.</summary>
    public required string? Machine { get; init; }

    /// <summary>The memory that the guest has, in bytes; null if unknown.</summary>
    public required long? MemoryBytes { get; init; }

    /// <summary>The version of QEMU: major.minor.micro; null where no monitor could be asked.</summary>
    public required string? Version { get; init; }

    /// <summary>The path of the QEMU program.</summary>
    public required string? Program { get; init; }

    /// <summary>The user id under which it runs.</summary>
    public required long? UserId { get; init; }

    /// <summary>True if it was started to receive a migration (-incoming).</summary>
    public required bool Incoming { get; init; }

    /// <summary>Its monitors.</summary>
    public required QemuMonitorInfo[] Monitors { get; init; }

    /// <summary>The address of the monitor that Connect-QemuMonitor would use; null if there is none.</summary>
    public string? Monitor => Monitors.FirstOrDefault(monitor => monitor.IsUsable)?.Uri;

    /// <summary>Who is connected to its monitors; null if no client is seen.</summary>
    public string? MonitorHolder => Monitors.Select(monitor => monitor.Holder).FirstOrDefault(holder => holder is not null);

    /// <summary>Why no monitor can be used, or what was not to be learnt from it; null if there is nothing to say.</summary>
    public required string? Problem { get; init; }

    /// <summary>The name, or the process id for want of one.</summary>
    public override string ToString() => Name ?? $"pid {ProcessId}";
}

/// <summary>One monitor (QMP) of a QEMU process.</summary>
public sealed record QemuMonitorInfo
{
    /// <summary>Where it listens: <c>unix:PATH</c> or <c>tcp:HOST:PORT</c>; what kind of device it is, for other kinds.</summary>
    public required string Uri { get; init; }

    /// <summary>The path of its socket; null for other kinds.</summary>
    public required string? Path { get; init; }

    /// <summary>The manager that this monitor is for.</summary>
    public required VMManager Manager { get; init; }

    /// <summary>The process that is connected to it, as <c>program (pid N)</c>; null if no client is seen.</summary>
    public required string? Holder { get; init; }

    /// <summary>The id of that process; null if no client is seen.</summary>
    public required int? HolderId { get; init; }

    /// <summary>True if it can be connected to: a socket that listens, has no client and is not its manager's own.</summary>
    public required bool IsUsable { get; init; }

    /// <summary>True if it must be connected to with -Lease.</summary>
    public required bool NeedsLease { get; init; }

    /// <summary>The address.</summary>
    public override string ToString() => Uri;
}
