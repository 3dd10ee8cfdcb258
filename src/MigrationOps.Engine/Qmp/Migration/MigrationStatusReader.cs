using System.Globalization;
using System.Text.Json;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// Turns what query-migrate returns into a sample with units and types. Whatever a QEMU says, it never throws: an unknown status is
/// the phase Unknown, an unknown member is passed on as text.
/// </summary>
internal static class MigrationStatusReader
{
    private static readonly HashSet<string> Known =
    [
        "status", "ram", "vfio", "xbzrle-cache", "total-time", "expected-downtime", "downtime", "setup-time", "cpu-throttle-percentage", "error-desc",
        "blocked-reasons", "postcopy-blocktime", "postcopy-vcpu-blocktime", "postcopy-latency", "socket-address", "dirty-limit-throttle-time-per-round",
        "dirty-limit-ring-full-time", "remaining",
    ];

    private static readonly HashSet<string> KnownOfRam =
    [
        "transferred", "remaining", "total", "duplicate", "skipped", "normal", "normal-bytes", "dirty-pages-rate", "mbps", "dirty-sync-count",
        "postcopy-requests", "page-size", "multifd-bytes", "pages-per-second", "precopy-bytes", "downtime-bytes", "postcopy-bytes",
        "dirty-sync-missed-zero-copy",
    ];

    /// <summary>The phase of a status; null is none.</summary>
    internal static QemuMigrationPhase PhaseOf(string? status) => status switch
    {
        null or "none" => QemuMigrationPhase.None,
        "setup" or "wait-unplug" => QemuMigrationPhase.Setup,
        "active" => QemuMigrationPhase.Copying,
        "pre-switchover" => QemuMigrationPhase.Held,
        "device" or "postcopy-device" => QemuMigrationPhase.Switching,
        "postcopy-active" => QemuMigrationPhase.Postcopy,
        "postcopy-paused" => QemuMigrationPhase.PostcopyPaused,
        "postcopy-recover" or "postcopy-recover-setup" => QemuMigrationPhase.Recovering,
        "cancelling" => QemuMigrationPhase.Cancelling,
        "failing" => QemuMigrationPhase.Failing,
        "completed" => QemuMigrationPhase.Completed,
        "failed" => QemuMigrationPhase.Failed,
        "cancelled" => QemuMigrationPhase.Cancelled,
        "colo" => QemuMigrationPhase.Colo,
        _ => QemuMigrationPhase.Unknown,
    };

    /// <summary>Reads one.</summary>
    /// <param name="answer">What query-migrate returned.</param>
    /// <param name="monitor">The address of the monitor.</param>
    /// <param name="vm">The name of the VM.</param>
    /// <param name="runState">What query-status said, if it was asked.</param>
    internal static QemuMigrationStatus Read(JsonElement answer, string monitor, string? vm, string? runState)
    {
        string? status = answer.Text("status");
        var ram = answer.Member("ram") ?? default;
        var cache = answer.Member("xbzrle-cache") ?? default;
        long? pageBytes = ram.Number("page-size");
        return new QemuMigrationStatus
        {
            VM = vm,
            Monitor = monitor,
            TakenAt = DateTimeOffset.UtcNow.LocalDateTime,
            Status = status,
            Phase = PhaseOf(status),
            RunState = runState,
            Pass = ram.Number("dirty-sync-count"),
            RemainingBytes = ram.Number("remaining"),
            TotalRemainingBytes = answer.Number("remaining"),
            TransferredBytes = ram.Number("transferred"),
            TotalBytes = ram.Number("total"),
            // Pages of the target's size, which is what page-size is; QEMUs before 2.11 have no such member.
            DirtyBytesPerSecond = ram.Number("dirty-pages-rate") * (pageBytes ?? 4096),
            // Megabits, of 1,000,000, in a second.
            BytesPerSecond = ram.Real("mbps") is { } megabits && double.IsFinite(megabits) ? (long)(megabits * 1_000_000 / 8) : null,
            PagesPerSecond = ram.Number("pages-per-second"),
            PageBytes = pageBytes,
            ZeroPages = ram.Number("duplicate"),
            NormalPages = ram.Number("normal"),
            NormalBytes = ram.Number("normal-bytes"),
            MultifdBytes = ram.Number("multifd-bytes"),
            PrecopyBytes = ram.Number("precopy-bytes"),
            DowntimeBytes = ram.Number("downtime-bytes"),
            PostcopyBytes = ram.Number("postcopy-bytes"),
            PostcopyRequests = ram.Number("postcopy-requests"),
            ZeroCopyMissed = ram.Number("dirty-sync-missed-zero-copy"),
            VfioBytes = answer.Member("vfio")?.Number("transferred"),
            TotalTime = Milliseconds(answer, "total-time"),
            SetupTime = Milliseconds(answer, "setup-time"),
            ExpectedDowntime = Milliseconds(answer, "expected-downtime"),
            Downtime = Milliseconds(answer, "downtime"),
            ThrottlePercent = (int?)answer.Number("cpu-throttle-percentage"),
            DirtyLimitThrottle = Microseconds(answer, "dirty-limit-throttle-time-per-round"),
            DirtyRingFull = Microseconds(answer, "dirty-limit-ring-full-time"),
            PostcopyBlocktime = Milliseconds(answer, "postcopy-blocktime"),
            PostcopyVcpuBlocktime = [.. answer.Items("postcopy-vcpu-blocktime")
                .Select(time => time.ValueKind == JsonValueKind.Number && time.TryGetInt64(out long ms) ? Bounded(ms, TimeSpan.TicksPerMillisecond) : TimeSpan.Zero)],
            PostcopyLatency = answer.Number("postcopy-latency") is { } ns ? new TimeSpan(ns / TimeSpan.NanosecondsPerTick) : null,
            XbzrleCacheBytes = cache.Number("cache-size"),
            XbzrleBytes = cache.Number("bytes"),
            XbzrlePages = cache.Number("pages"),
            XbzrleCacheMisses = cache.Number("cache-miss"),
            XbzrleCacheMissRate = cache.Real("cache-miss-rate"),
            XbzrleEncodingRate = cache.Real("encoding-rate"),
            XbzrleOverflows = cache.Number("overflow"),
            Listening = [.. answer.Items("socket-address").Select(Address)],
            Error = answer.Text("error-desc"),
            BlockedReasons = answer.Texts("blocked-reasons"),
            OtherMembers = [.. Others(answer, Known, ""), .. Others(ram, KnownOfRam, "ram.")],
        };
    }

    private static IEnumerable<string> Others(JsonElement value, HashSet<string> known, string prefix)
        => value.ValueKind != JsonValueKind.Object ? []
            : value.EnumerateObject().Where(member => !known.Contains(member.Name)).Select(member => $"{prefix}{member.Name} = {member.Value.GetRawText()}");

    private static TimeSpan? Milliseconds(JsonElement value, string name) => value.Number(name) is { } time ? Bounded(time, TimeSpan.TicksPerMillisecond) : null;

    private static TimeSpan? Microseconds(JsonElement value, string name) => value.Number(name) is { } time ? Bounded(time, TimeSpan.TicksPerMicrosecond) : null;

    // A number that is no time at all must not throw; it is as long as a time can be.
    private static TimeSpan Bounded(long count, long ticks)
        => count > TimeSpan.MaxValue.Ticks / ticks ? TimeSpan.MaxValue : count < 0 ? TimeSpan.Zero : new TimeSpan(count * ticks);

    private static string Address(JsonElement address) => address.Text("type") switch
    {
        "inet" or "inet6" or "tcp" when address.Text("host") is { } host => string.Create(CultureInfo.InvariantCulture,
            $"tcp:{(host.Contains(':', StringComparison.Ordinal) ? $"[{host}]" : host)}:{address.Text("port")}"),
        "unix" => "unix:" + address.Text("path"),
        "fd" => "fd:" + address.Text("str"),
        _ => address.GetRawText(),
    };
}
