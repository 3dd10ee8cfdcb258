using System.Diagnostics;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Vfio;

/// <summary>What is counted of one device while it is received. Whoever uses it holds the device's lock.</summary>
internal sealed class DeviceTally
{
    private const int MostWarnings = 20;

    private readonly SortedSet<string> _warnings = new(StringComparer.Ordinal);
    private long _started;
    private long _ended;
    private long _queued;

    internal long Bytes { get; set; }

    internal long PrecopyBytes { get; set; }

    internal long SpilledBytes { get; set; }

    internal long MaxQueuedBytes { get; private set; }

    internal int ConfigBytes { get; private set; }

    /// <summary>Something of the device has come.</summary>
    internal void Start()
    {
        if (_started == 0)
        {
            _started = Stopwatch.GetTimestamp();
        }
    }

    /// <summary>A packet has arrived and waits, unless it is delivered at once.</summary>
    internal void Queue(int length, bool goesOnAtOnce)
    {
        _queued += length;
        MaxQueuedBytes = goesOnAtOnce ? MaxQueuedBytes : Math.Max(MaxQueuedBytes, _queued);
    }

    /// <summary>A packet that had waited has been delivered.</summary>
    internal void Dequeue(int length) => _queued -= length;

    /// <summary>The device is complete.</summary>
    internal void End(int configBytes)
    {
        ConfigBytes = configBytes;
        _ended = Stopwatch.GetTimestamp();
    }

    /// <summary>Something was accepted that should not be.</summary>
    internal void Warn(string warning)
    {
        // The peer decides how many there are.
        if (_warnings.Count < MostWarnings)
        {
            _warnings.Add(warning);
        }
    }

    internal DeviceSummary Summarize(string idStr, uint instanceId, PacketOrder<HeldPacket> order)
        => new(idStr, instanceId, order.Packets, Bytes, PrecopyBytes, order.OutOfOrder, MaxQueuedBytes, SpilledBytes, ConfigBytes,
            _started == 0 ? TimeSpan.Zero : Stopwatch.GetElapsedTime(_started, _ended), [.. _warnings]);
}
