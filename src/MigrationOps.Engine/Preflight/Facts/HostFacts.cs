using MigrationOps.Engine.Native;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>What of a host decides whether a VM can live there; from Get-QemuHost, or from /proc if it is this one.</summary>
internal sealed record HostFacts
{
    internal required string Name { get; init; }

    internal required bool IsThisOne { get; init; }

    internal required long AvailableBytes { get; init; }

    internal required IReadOnlyList<QemuHostHugePages> HugePages { get; init; }

    internal required IReadOnlyList<double> LoadAverage { get; init; }

    internal required int Cpus { get; init; }

    internal required string CpuVendor { get; init; }

    internal required string Kernel { get; init; }

    internal required bool Userfaultfd { get; init; }

    internal required long? MemlockBytes { get; init; }

    internal required IReadOnlyList<QemuHostLink> Links { get; init; }

    internal required bool? ClockSynchronized { get; init; }

    internal required TimeSpan? ClockMaximumError { get; init; }

    internal static HostFacts Of(QemuHost host) => new()
    {
        Name = host.Name,
        IsThisOne = false,
        AvailableBytes = host.AvailableBytes,
        HugePages = host.HugePages,
        LoadAverage = host.LoadAverage,
        Cpus = host.Cpus,
        CpuVendor = host.CpuVendor,
        Kernel = host.Kernel,
        Userfaultfd = host.Userfaultfd,
        MemlockBytes = host.MemlockBytes,
        Links = host.Links,
        ClockSynchronized = host.ClockSynchronized,
        ClockMaximumError = host.ClockMaximumError,
    };

    /// <summary>This host.</summary>
    internal static HostFacts Here()
    {
        bool knowsClock = KernelClock.TryGet(out var error);
        return new HostFacts
        {
            Name = Environment.MachineName,
            IsThisOne = true,
            AvailableBytes = HostFiles.Memory("MemAvailable"),
            HugePages = HostFiles.HugePages(),
            LoadAverage = HostFiles.LoadAverage(),
            Cpus = Environment.ProcessorCount,
            CpuVendor = HostFiles.Cpu("vendor_id", "CPU implementer", "vendor"),
            Kernel = HostFiles.Kernel(),
            Userfaultfd = UserFaultFd.IsAllowed(),
            MemlockBytes = HostFiles.Limit("Max locked memory"),
            Links = HostFiles.Links(),
            ClockSynchronized = knowsClock ? error is not null : null,
            ClockMaximumError = error,
        };
    }
}
