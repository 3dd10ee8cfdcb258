using System.Globalization;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Multifd;

/// <summary>What the threads of one receipt share.</summary>
internal sealed class ReceiveState
{
    /// <summary>The most channels that a migration can have.</summary>
    internal const int MostChannels = 255;

    private readonly object _lock = new();
    private readonly SortedDictionary<int, ChannelCounters> _channels = [];
    private readonly SortedSet<string> _warnings = new(StringComparer.Ordinal);
    private readonly int? _expected;
    private readonly CancellationToken _cancelled;
    private bool _hasMain;
    private bool _allConnected;
    private int _connections;
    private int _introduced;
    private int _ended;
    private long _flushes;
    private (long Bytes, string? Machine, int PageSize)? _main;
    private bool _waiting;

    /// <param name="expected">Number of channels; null to take as many as come.</param>
    /// <param name="cancelled">Ends every wait.</param>
    internal ReceiveState(int? expected, CancellationToken cancelled)
    {
        _expected = expected;
        _cancelled = cancelled;
    }

    internal bool MainHasEnded { get; private set; }

    internal void AddMain()
    {
        lock (_lock)
        {
            if (_hasMain)
            {
                throw new MultifdException(MultifdError.DuplicateMainChannel, "A second main channel connected.");
            }

            _hasMain = true;
            Introduce();
        }
    }

    internal ChannelCounters AddChannel(ChannelInit init, string name)
    {
        lock (_lock)
        {
            int most = _expected ?? MostChannels;
            if (init.Id >= most)
            {
                throw MultifdException.At(MultifdError.ChannelIdOutOfRange, name, 24,
                    $"the channel has id {init.Id}, with {most} channels the ids go from 0 to {most - 1}");
            }

            var other = _channels.Values.FirstOrDefault(c => c.Init.Uuid != init.Uuid);
            if (other is not null)
            {
                throw MultifdException.At(MultifdError.UuidMismatch, name, 8,
                    $"the channel is of machine {init.Uuid}, channel {other.Init.Id} of machine {other.Init.Uuid}");
            }

            var counters = new ChannelCounters(init);
            if (!_channels.TryAdd(init.Id, counters))
            {
                throw MultifdException.At(MultifdError.DuplicateChannel, name, 24, $"there is a channel {init.Id} already");
            }

            Introduce();
            return counters;
        }
    }

    internal void CountConnection() => Interlocked.Increment(ref _connections);

    /// <summary>A connection was none of the migration's.</summary>
    internal void ForgetConnection()
    {
        Interlocked.Decrement(ref _connections);
        Changed();
    }

    /// <summary>Connections that have not said yet what they are.</summary>
    internal int Unknown => Volatile.Read(ref _connections) - Volatile.Read(ref _introduced);

    /// <summary>True if no connection has said what it is.</summary>
    internal bool NoneIntroduced => Volatile.Read(ref _introduced) == 0;

    /// <summary>Called once the main channel and all channels that were announced have introduced themselves.</summary>
    internal Action? AllIntroduced { get; init; }

    /// <summary>A multifd channel has come to its end.</summary>
    internal void EndChannel()
    {
        Interlocked.Increment(ref _ended);
        Changed();
    }

    internal void AllConnected()
    {
        lock (_lock)
        {
            _allConnected = true;
            Monitor.PulseAll(_lock);
        }
    }

    internal void EndMain(long bytes, string? machine, int pageSize, long flushes)
    {
        lock (_lock)
        {
            _main = (bytes, machine, pageSize);
            _flushes = flushes;
            MainHasEnded = true;
        }
    }

    internal void Warn(string warning)
    {
        lock (_lock)
        {
            // The peer decides how many there are.
            if (_warnings.Count < 100)
            {
                _warnings.Add(warning);
            }
        }
    }

    /// <summary>Something came that the end of the migration may have waited for.</summary>
    internal void Changed()
    {
        if (Volatile.Read(ref _waiting))
        {
            lock (_lock)
            {
                Monitor.PulseAll(_lock);
            }
        }
    }

    /// <summary>
    /// The main stream has ended: waits for channels that are still to connect. A source opens all of them before, but
    /// what stands between may bring their connections later than the main stream.
    /// </summary>
    internal void WaitForChannels(IDeviceStateReceiver devices) => Wait(() => _allConnected || (_expected is { } count
        ? _channels.Count >= count
        : HasArrived(devices) || (_channels.Count > 0 && _ended == _channels.Count)));

    /// <summary>Waits until every channel has had its last SYNC and every device is complete.</summary>
    internal void WaitUntilComplete(IDeviceStateReceiver devices) => Wait(() => _allConnected && HasArrived(devices));

    /// <summary>Everything has ended: are all channels there, each with all its SYNC marks?</summary>
    internal void CheckChannels()
    {
        lock (_lock)
        {
            if (!_hasMain)
            {
                throw new MultifdException(MultifdError.MissingMainChannel, "No main channel connected.");
            }

            int[] missing = MissingChannels();
            if (missing.Length > 0)
            {
                throw new MultifdException(MultifdError.MissingChannel,
                    $"Of {_channels.Count + missing.Length} channels {_channels.Count} connected; missing: {string.Join(", ", missing)}.");
            }

            foreach (var channel in _channels.Values)
            {
                if (ExpectedSyncs() is { } syncs && channel.SyncPackets != syncs)
                {
                    throw new MultifdException(MultifdError.MissingSync,
                        $"Channel {channel.Init.Id} ended with {channel.SyncPackets} SYNC packets, the migration has {syncs}: RAM is missing.")
                    { Section = $"channel {channel.Init.Id}", ByteOffset = channel.Bytes };
                }
            }
        }
    }

    internal MigrationSummary Summarize(int pageSize)
    {
        lock (_lock)
        {
            var channels = _channels.Values;
            return new MigrationSummary(
                _main?.Bytes ?? 0, _main?.Machine, channels.FirstOrDefault()?.Init.Uuid ?? default, _main?.PageSize ?? pageSize,
                channels.Aggregate(PacketFlags.None, (all, c) => all | c.Compression),
                [.. channels.Select(c => c.Summarize())],
                [.. _warnings]);
        }
    }

    internal string Describe()
    {
        lock (_lock)
        {
            string channels = string.Join(", ", _channels.Values.Select(c =>
                string.Create(CultureInfo.InvariantCulture, $"channel {c.Init.Id} at byte {c.Bytes:N0}")));
            return !_hasMain && _channels.Count == 0 ? "No peer has connected."
                : $"The main channel {(!_hasMain ? "has not connected" : MainHasEnded ? "has ended" : "is open")}; "
                    + $"{(channels.Length == 0 ? "no multifd channel has connected" : channels)}.";
        }
    }

    private void Introduce()
    {
        _introduced++;
        Monitor.PulseAll(_lock);
        if (_introduced == _expected + 1)
        {
            AllIntroduced?.Invoke();
        }
    }

    private void Wait(Func<bool> condition)
    {
        Volatile.Write(ref _waiting, true);
        using var wake = _cancelled.UnsafeRegister(static state => ((ReceiveState)state!).Changed(), this);
        lock (_lock)
        {
            while (!condition())
            {
                _cancelled.ThrowIfCancellationRequested();
                Monitor.Wait(_lock);
            }
        }
    }

    // Everything that is known to come is there.
    private bool HasArrived(IDeviceStateReceiver devices)
        => _introduced == Volatile.Read(ref _connections) && MissingChannels().Length == 0 && ChannelsAreComplete() && devices.IsComplete;

    // The number of channels is not in the stream. A stream with marks for them has one at least.
    private int[] MissingChannels()
    {
        int count = _expected ?? Math.Max(_channels.Count == 0 ? 0 : _channels.Keys.Last() + 1, _flushes > 0 ? 1 : 0);
        return [.. Enumerable.Range(0, count).Except(_channels.Keys)];
    }

    private bool ChannelsAreComplete()
    {
        long? syncs = ExpectedSyncs();
        return _channels.Values.All(c => syncs is null || c.SyncPackets >= syncs);
    }

    // Machine types before 8.1 synchronise at the end of each section, without a mark of its own: there every channel
    // has as many as the others.
    private long? ExpectedSyncs() => _channels.Count == 0 ? null
        : _flushes > 0 ? _flushes : _channels.Values.Max(c => c.SyncPackets);
}

/// <summary>What one channel has carried; written by its thread only.</summary>
internal sealed class ChannelCounters(ChannelInit init)
{
    private long _syncPackets;

    internal ChannelInit Init { get; } = init;

    internal long Bytes { get; set; }

    internal long RamPackets { get; set; }

    internal long SyncPackets => Interlocked.Read(ref _syncPackets);

    internal long NormalPages { get; set; }

    internal long ZeroPages { get; set; }

    internal long DevicePackets { get; set; }

    internal PacketFlags Compression { get; set; }

    internal void CountSync() => Interlocked.Increment(ref _syncPackets);

    internal ChannelSummary Summarize()
        => new(Init.Id, Bytes, RamPackets, SyncPackets, NormalPages, ZeroPages, DevicePackets);
}
