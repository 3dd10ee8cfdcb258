namespace MigrationOps;

/// <summary>What a host offers to a VM: taken from a QEMU that was started for it and ended again, and from /proc and /sys.</summary>
public sealed record QemuHost
{
    /// <summary>The host's name.</summary>
    public required string Name { get; init; }

    /// <summary>When it was taken, by that host's clock (UTC).</summary>
    public required DateTime TakenAt { get; init; }

    /// <summary>The path of the QEMU program that was asked.</summary>
    public required string Program { get; init; }

    /// <summary>Its version: major.minor.micro.</summary>
    public required string Version { get; init; }

    /// <summary>The distributor's name of the package; empty if there is none.</summary>
    public required string Package { get; init; }

    /// <summary>The architecture of the guests that it runs, such as x86_64.</summary>
    public required string Architecture { get; init; }

    /// <summary>Its machine types.</summary>
    public required QemuMachineType[] Machines { get; init; }

    /// <summary>Its CPU models, as the accelerator <see cref="Accelerator"/> can run them here.</summary>
    public required QemuCpuModel[] CpuModels { get; init; }

    /// <summary>The CPU model whose features stand in <see cref="CpuWords"/>.</summary>
    public required string CpuModel { get; init; }

    /// <summary>The CPUID words that a guest can have here with <see cref="CpuModel"/>; empty on other architectures than x86.</summary>
    public required QemuCpuWord[] CpuWords { get; init; }

    /// <summary>The accelerator with which the probe ran: kvm or tcg.</summary>
    public required string Accelerator { get; init; }

    /// <summary>Why KVM could not be used; null if it was.</summary>
    public required string? KvmProblem { get; init; }

    /// <summary>True if guests may have guests of their own (KVM's parameter nested).</summary>
    public required bool NestedKvm { get; init; }

    /// <summary>The names of the QMP commands of this QEMU.</summary>
    public required string[] Commands { get; init; }

    /// <summary>The migration capabilities that this QEMU has.</summary>
    public required string[] MigrationCapabilities { get; init; }

    /// <summary>The migration parameters that this QEMU has.</summary>
    public required string[] MigrationParameters { get; init; }

    /// <summary>The maker of the CPU, such as GenuineIntel.</summary>
    public required string CpuVendor { get; init; }

    /// <summary>The CPU's name for people.</summary>
    public required string CpuName { get; init; }

    /// <summary>CPUs that are online.</summary>
    public required int Cpus { get; init; }

    /// <summary>The kernel's release.</summary>
    public required string Kernel { get; init; }

    /// <summary>The memory of the host, in bytes.</summary>
    public required long MemoryBytes { get; init; }

    /// <summary>Memory that can be had without swapping, in bytes.</summary>
    public required long AvailableBytes { get; init; }

    /// <summary>The NUMA nodes.</summary>
    public required QemuHostNode[] Nodes { get; init; }

    /// <summary>The huge pages, by node and size.</summary>
    public required QemuHostHugePages[] HugePages { get; init; }

    /// <summary>Load of the last minute, five and fifteen minutes: processes that run or wait.</summary>
    public required double[] LoadAverage { get; init; }

    /// <summary>True if this user may handle page faults of the kernel, which postcopy needs: as root, by sysctl, or by /dev/userfaultfd.</summary>
    public required bool Userfaultfd { get; init; }

    /// <summary>How much memory this user may lock, in bytes; null without a limit.</summary>
    public required long? MemlockBytes { get; init; }

    /// <summary>How many files this process may have open; null without a limit.</summary>
    public required long? OpenFiles { get; init; }

    /// <summary>The network interfaces, without the loopback.</summary>
    public required QemuHostLink[] Links { get; init; }

    /// <summary>True if libvirt's daemon for QEMU listens here.</summary>
    public required bool Libvirt { get; init; }

    /// <summary>True if it is a Proxmox VE host.</summary>
    public required bool Proxmox { get; init; }

    /// <summary>True if the kernel's clock is disciplined by a time service; null if unknown.</summary>
    public required bool? ClockSynchronized { get; init; }

    /// <summary>The largest error of the clock by the kernel's own estimate; null if it is not synchronized.</summary>
    public required TimeSpan? ClockMaximumError { get; init; }

    /// <summary>What could not be learnt, one sentence each.</summary>
    public required string[] Problems { get; init; }

    /// <summary>The host's name and its QEMU.</summary>
    public override string ToString() => $"{Name}: QEMU {Version}";
}

/// <summary>A machine type of a QEMU.</summary>
public sealed record QemuMachineType
{
    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>Another name for it, such as q35 for the newest; null if there is none.</summary>
    public required string? Alias { get; init; }

    /// <summary>True if QEMU is going to drop it.</summary>
    public required bool Deprecated { get; init; }

    /// <summary>The most CPUs that it can have.</summary>
    public required int MaximumCpus { get; init; }

    /// <summary>The CPU type that it has unless another is asked for; null if there is none.</summary>
    public required string? DefaultCpu { get; init; }

    /// <summary>The name.</summary>
    public override string ToString() => Name;
}

/// <summary>A CPU model of a QEMU.</summary>
public sealed record QemuCpuModel
{
    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>The model that it stands for; null if it is none of these.</summary>
    public required string? AliasOf { get; init; }

    /// <summary>True if it is the same on every host.</summary>
    public required bool MigrationSafe { get; init; }

    /// <summary>True if QEMU is going to drop it.</summary>
    public required bool Deprecated { get; init; }

    /// <summary>Features of the model that this host lacks; empty if it can run. Null if QEMU does not tell.</summary>
    public required string[]? UnavailableFeatures { get; init; }

    /// <summary>The name.</summary>
    public override string ToString() => Name;
}

/// <summary>32 bits of CPU features, as the instruction CPUID gives them.</summary>
public sealed record QemuCpuWord
{
    /// <summary>The leaf: EAX before the instruction.</summary>
    public required uint Leaf { get; init; }

    /// <summary>The subleaf: ECX before the instruction; null where it does not matter.</summary>
    public required uint? Subleaf { get; init; }

    /// <summary>The register that holds them: EAX, EBX, ECX or EDX.</summary>
    public required string Register { get; init; }

    /// <summary>The bits.</summary>
    public required uint Bits { get; init; }

    /// <summary>The word in one line.</summary>
    public override string ToString() => Subleaf is null ? $"{Leaf:X}.{Register} = {Bits:X8}" : $"{Leaf:X}:{Subleaf:X}.{Register} = {Bits:X8}";
}

/// <summary>A NUMA node of a host.</summary>
public sealed record QemuHostNode
{
    /// <summary>Its number.</summary>
    public required int Node { get; init; }

    /// <summary>Its memory, in bytes.</summary>
    public required long MemoryBytes { get; init; }

    /// <summary>Its free memory, in bytes; caches are not free.</summary>
    public required long FreeBytes { get; init; }

    /// <summary>Its CPUs, as a list such as 0-3,8.</summary>
    public required string Cpus { get; init; }

    /// <summary>The node in one line.</summary>
    public override string ToString() => $"node {Node}: {FreeBytes >> 20} of {MemoryBytes >> 20} MiB free";
}

/// <summary>The huge pages of one size on one node.</summary>
public sealed record QemuHostHugePages
{
    /// <summary>The node.</summary>
    public required int Node { get; init; }

    /// <summary>The size of a page, in bytes.</summary>
    public required long PageBytes { get; init; }

    /// <summary>How many there are.</summary>
    public required long Total { get; init; }

    /// <summary>How many are free.</summary>
    public required long Free { get; init; }

    /// <summary>The pages in one line.</summary>
    public override string ToString() => $"node {Node}: {Free} of {Total} pages of {PageBytes >> 10} KiB free";
}

/// <summary>A network interface of a host.</summary>
public sealed record QemuHostLink
{
    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>True if it has a carrier.</summary>
    public required bool IsUp { get; init; }

    /// <summary>The largest packet, in bytes.</summary>
    public required int Mtu { get; init; }

    /// <summary>Its speed in bits per second; null if it does not tell.</summary>
    public required long? BitsPerSecond { get; init; }

    /// <summary>True if it is a bridge.</summary>
    public required bool IsBridge { get; init; }

    /// <summary>Its addresses.</summary>
    public required string[] Addresses { get; init; }

    /// <summary>The name.</summary>
    public override string ToString() => Name;
}
