using System.Globalization;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>The host on which the VM is to run.</summary>
internal static class HostChecks
{
    // QEMU's own memory beside the guest's, by rule of thumb.
    private const long Overhead = 128L << 20;
    private const double HighLoad = 2;

    internal static IEnumerable<PreflightCheck> All =>
    [
        new("MemoryFree", QemuCheckGroup.Host, MemoryFree),
        new("HugepagesFree", QemuCheckGroup.Host, HugepagesFree),
        new("Userfaultfd", QemuCheckGroup.Host, Userfaultfd),
        new("CpuVendor", QemuCheckGroup.Host, CpuVendor),
        new("ClockOffset", QemuCheckGroup.Host, ClockOffset),
        new("HostLoad", QemuCheckGroup.Host, HostLoad),
    ];

    /// <summary>The memory of the guest, in bytes.</summary>
    private static long? MemoryOf(QemuFacts qemu)
        => qemu["query-memory-size-summary"] is { } sizes && sizes.Number("base-memory") is { } size ? size + (sizes.Number("plugged-memory") ?? 0) : null;

    private static IEnumerable<(string Id, long Bytes, long PageBytes)> HugeBackends(QemuFacts qemu)
        => (RamBlockFacts.Of(qemu) ?? []).Where(block => block.PageBytes > 64 << 10).Select(block => (block.Name, block.Used, block.PageBytes));

    private static Finding? MemoryFree(PreflightFacts facts)
    {
        if (facts.TargetHost is not { } host || MemoryOf(facts.Source) is not { } memory)
        {
            return null;
        }

        // A process has what it wrote; of a target that waits that is next to nothing, even if its memory is reserved.
        long needed = memory - HugeBackends(facts.Source).Sum(backend => backend.Bytes);
        string free = MemoryChecks.Bytes(host.AvailableBytes >> 20 << 20);
        Finding finding = host.AvailableBytes < needed ? Finding.Warning($"{host.Name} has less memory than the guest: the kernel may end the VM when it is loaded.", $"Free {MemoryChecks.Bytes((needed - host.AvailableBytes) >> 20 << 20)} on {host.Name}, or choose another host.")
            : host.AvailableBytes < needed + Overhead ? Finding.Warning($"{host.Name} has little more memory than the guest.", $"Free memory on {host.Name}, or choose another host.")
            : Finding.Passed();
        return finding.Of(MemoryChecks.Bytes(memory), free + " available");
    }

    private static Finding? HugepagesFree(PreflightFacts facts)
    {
        // A QEMU that waits has its pages, or it would not have started.
        if (facts.Target is not null || facts.TargetHost is not { } host)
        {
            return null;
        }

        foreach (var size in HugeBackends(facts.Source).GroupBy(backend => backend.PageBytes))
        {
            long needed = size.Sum(backend => backend.Bytes) / size.Key, free = host.HugePages.Where(pages => pages.PageBytes == size.Key).Sum(pages => pages.Free);
            if (free < needed)
            {
                return Finding.Blocker($"{host.Name} has {free} free huge pages of {MemoryChecks.Bytes(size.Key)}; the guest needs {needed}.",
                    $"On {host.Name}: echo {needed} > /sys/kernel/mm/hugepages/hugepages-{size.Key >> 10}kB/nr_hugepages").Of($"{needed} pages", $"{free} pages");
            }
        }

        return Finding.Passed();
    }

    private static Finding? Userfaultfd(PreflightFacts facts)
        => facts.Options.Mode != QemuMigrationMode.Postcopy ? null
            : facts.TargetHost is not { } host ? Finding.Unknown("Whether the target's user may handle page faults is not known.", "On the target: sysctl vm.unprivileged_userfaultfd, or access to /dev/userfaultfd")
            : host.Userfaultfd ? Finding.Passed()
            : Finding.Blocker($"This user may not handle page faults of the kernel on {host.Name}, which postcopy needs.", "sysctl vm.unprivileged_userfaultfd=1, or give QEMU's user access to /dev/userfaultfd");

    private static Finding? CpuVendor(PreflightFacts facts)
    {
        if (facts.SourceHost is not { } here || facts.TargetHost is not { } there)
        {
            return null;
        }

        bool isVirtual = facts.Source["query-kvm"]?.Flag("enabled") == true;
        return (here.CpuVendor == there.CpuVendor || !isVirtual ? Finding.Passed()
            : Finding.Blocker("With KVM a guest does not survive on a CPU of another maker.", "Choose a host with a CPU of the same maker.")).Of(here.CpuVendor, there.CpuVendor);
    }

    private static Finding? ClockOffset(PreflightFacts facts)
    {
        if (facts.TargetHost is not { } host || host.IsThisOne)
        {
            return null;
        }

        return host.ClockSynchronized switch
        {
            true => Finding.Passed().Of(null, string.Create(CultureInfo.InvariantCulture, $"within {host.ClockMaximumError?.TotalMilliseconds:0} ms")),
            false => Finding.Warning($"The clock of {host.Name} is not disciplined: the guest's time may jump, and downtime is not told by events.", "systemctl start chrony (or systemd-timesyncd) there"),
            null => Finding.Unknown($"The clock of {host.Name} cannot be asked."),
        };
    }

    private static Finding? HostLoad(PreflightFacts facts)
    {
        if (facts.TargetHost is not { LoadAverage: [var load, ..] } host)
        {
            return null;
        }

        string text = string.Create(CultureInfo.InvariantCulture, $"{load:0.0} on {host.Cpus} CPUs");
        return (load > host.Cpus * HighLoad ? Finding.Warning($"{host.Name} has more work than CPUs: the migration is slower and the downtime longer.", "Migrate later, or choose another host.") : Finding.Passed()).Of(null, text);
    }
}
