using System.Globalization;

namespace MigrationOps;

/// <summary>
/// How a migration by pre-copy will go, computed from the VM's memory, its dirty rate, the bandwidth and the downtime limit before anything
/// is sent. The shortest and the longest times are those of the best and the worst case within the error of what was measured.
/// </summary>
public sealed record QemuMigrationEstimate
{
    /// <summary>
    /// True if the rest becomes small enough for the downtime limit, false if the guest writes too fast for that. Null if it is too close to
    /// say, or if the dirty rate was not measured (<see cref="DirtyBytesPerSecond"/> is null).
    /// </summary>
    public required bool? Converges { get; init; }

    /// <summary>Passes over memory as QEMU counts them (dirty-sync-count); null if it does not converge or is unknown.</summary>
    public required int? Passes { get; init; }

    /// <summary>Bytes of memory that are sent, over all passes; of the first pass if it does not converge or is unknown.</summary>
    public required long BytesToSend { get; init; }

    /// <summary>The likely time that it takes; null if it does not converge or is unknown.</summary>
    public required TimeSpan? Duration { get; init; }

    /// <summary>The shortest time that it is likely to take; that of the first pass if it does not converge or is unknown.</summary>
    public required TimeSpan ShortestDuration { get; init; }

    /// <summary>The longest time that it is likely to take; null if it may not end.</summary>
    public required TimeSpan? LongestDuration { get; init; }

    /// <summary>The likely time that the guest stands still; null if it does not converge or is unknown.</summary>
    public required TimeSpan? Downtime { get; init; }

    /// <summary>The shortest downtime that is likely; null if it does not converge or is unknown.</summary>
    public required TimeSpan? ShortestDowntime { get; init; }

    /// <summary>The longest downtime that is likely; null if it does not converge or is unknown.</summary>
    public required TimeSpan? LongestDowntime { get; init; }

    /// <summary>What of the downtime the rest of memory takes; null if it does not converge or is unknown.</summary>
    public required TimeSpan? RamDowntime { get; init; }

    /// <summary>What of the downtime the state of devices takes: to stop them, to send it and to load it.</summary>
    public required TimeSpan DeviceDowntime { get; init; }

    /// <summary>What of the downtime the word between the two sides takes.</summary>
    public required TimeSpan CommitDowntime { get; init; }

    /// <summary>The lowest downtime limit with which it converges, on the safe side; null if there is none or it is unknown.</summary>
    public required TimeSpan? LowestDowntime { get; init; }

    /// <summary>The bandwidth with which it converges, in bytes per second, on the safe side; null if none is enough or it is unknown.</summary>
    public required long? BandwidthNeeded { get; init; }

    /// <summary>What would help, the mildest first; empty if nothing has to.</summary>
    public required string[] Advice { get; init; }

    /// <summary>The memory of the guest in bytes.</summary>
    public required long RamBytes { get; init; }

    /// <summary>Memory that is not zero, in bytes; null if it was not known: then all was counted.</summary>
    public required long? UsedBytes { get; init; }

    /// <summary>The bandwidth that was counted with, in bytes per second.</summary>
    public required long BytesPerSecond { get; init; }

    /// <summary>The downtime limit that was counted with.</summary>
    public required TimeSpan DowntimeLimit { get; init; }

    /// <summary>What the guest writes within a second, in bytes; null if it was not measured.</summary>
    public required long? DirtyBytesPerSecond { get; init; }

    /// <summary>The estimate in one line.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{BytesToSend / 1048576.0:0} MiB to send, ") + Converges switch
    {
        true => string.Create(CultureInfo.InvariantCulture,
            $"converges in {Seconds(ShortestDuration)}-{Seconds(LongestDuration)} s ({Passes} passes), downtime {Milliseconds(ShortestDowntime)}-{Milliseconds(LongestDowntime)} ms (RAM {Milliseconds(RamDowntime)}, devices {Milliseconds(DeviceDowntime)}, commit {Milliseconds(CommitDowntime)})"),
        false => "does not converge" + Border,
        null when DirtyBytesPerSecond is null => $"at least {Seconds(ShortestDuration)} s; without a dirty rate it cannot be said whether it converges",
        null => "may not converge" + Border,
    };

    private string Border => string.Create(CultureInfo.InvariantCulture, $" below a downtime limit of {Milliseconds(LowestDowntime)} ms; {BandwidthNeeded / 1048576.0:0} MiB/s or postcopy would");

    private static string Seconds(TimeSpan? time) => time is { } known ? known.TotalSeconds.ToString("0.#", CultureInfo.InvariantCulture) : "?";

    private static string Milliseconds(TimeSpan? time) => time is { } known ? known.TotalMilliseconds.ToString("0", CultureInfo.InvariantCulture) : "?";
}
