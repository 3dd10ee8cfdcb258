using System.Diagnostics;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Relay;

/// <summary>What is known of the migration that a relay carries; all its threads write it, and whoever wants may wait for a change.</summary>
internal sealed class RelayState
{
    private const int MostWarnings = 100;

    private readonly object _lock = new();
    private readonly List<RelayChannel> _channels = [];
    private readonly List<RelayFault> _struck = [];
    private readonly SortedSet<string> _warnings = new(StringComparer.Ordinal);
    private readonly Dictionary<string, RamBlock> _blocks = new(StringComparer.Ordinal);
    private RelayPhase _phase = RelayPhase.Listening;
    private Exception? _failure;
    private bool _isRunning = true;
    private bool _delivered;
    private bool _acknowledged;
    private bool _hasReturnPath;
    private bool _advised;
    private bool _postcopy;
    private bool _started;
    private bool _complete;
    private bool _encrypted;
    private int _switchoverAcks;
    private int _resumeAcks;
    private uint? _targetSaid;
    private string? _machine;
    private PacketFlags? _compression;
    private long _moved;

    /// <summary>The devices whose state comes over channels.</summary>
    internal RelayDevices Devices { get; } = new();

    /// <summary>Size of a target page in bytes, once <see cref="WaitForStart"/> has returned.</summary>
    internal int PageSize { get; set; } = StreamFormat.DefaultPageSize;

    internal RelayPhase Phase => Read(() => _phase);

    /// <summary>True once the source has said that it may switch to postcopy: a connection that says nothing may then be its second channel.</summary>
    internal bool MayUsePostcopy => Read(() => _advised);

    /// <summary>True if the guest was started at the target, or may have been, before all its memory was there.</summary>
    internal bool IsInPostcopy => Read(() => _postcopy);

    internal bool IsDelivered => Read(() => _delivered);

    internal bool IsAcknowledged => Read(() => _acknowledged);

    internal bool HasReturnPath => Read(() => _hasReturnPath);

    internal bool IsEncrypted => Read(() => _encrypted);

    internal uint? TargetSaid => Read(() => _targetSaid);

    internal string? Machine => Read(() => _machine);

    internal PacketFlags Compression => Read(() => _compression ?? PacketFlags.None);

    internal IReadOnlyList<RelayChannel> Channels => Read(() => _channels.ToArray());

    internal RelayStatus Snapshot() => Read(() => new RelayStatus
    {
        Phase = _phase,
        IsRunning = _isRunning,
        Delivered = _delivered,
        Acknowledged = _acknowledged,
        TargetSaid = _targetSaid,
        HasReturnPath = _hasReturnPath,
        SwitchoverAcks = _switchoverAcks,
        ResumeAcks = _resumeAcks,
        Machine = _machine,
        Channels = [.. _channels.OrderBy(c => c.Order).Select(c => c.Snapshot())],
        Struck = [.. _struck],
        Warnings = [.. _warnings],
        Failure = _failure,
    });

    /// <summary>Waits for a condition on what is known, which is looked at after every change of it.</summary>
    internal RelayStatus WaitFor(Func<RelayStatus, bool> condition, CancellationToken cancelled)
    {
        RelayStatus status = Snapshot();
        Wait(() => condition(status = Snapshot()), cancelled);
        return status;
    }

    /// <summary>Something was passed on.</summary>
    internal void Moved(int bytes) => Interlocked.Add(ref _moved, bytes);

    /// <summary>Changes what is known.</summary>
    internal void Change(Action change)
    {
        lock (_lock)
        {
            change();
            Monitor.PulseAll(_lock);
        }
    }

    internal void Add(RelayChannel channel) => Change(() => _channels.Add(channel));

    internal void Enter(RelayPhase phase) => Change(() => _phase = phase);

    internal void StartEncrypted() => Change(() => (_encrypted, _phase) = (true, RelayPhase.Encrypted));

    internal void OpenReturnPath() => Change(() => _hasReturnPath = true);

    internal void StartPostcopy() => Change(() => (_postcopy, _phase) = (true, RelayPhase.Postcopy));

    internal void AdvisePostcopy() => Change(() => _advised = true);

    /// <summary>The main stream's head has been read: page size and machine are known, as far as the stream tells them.</summary>
    internal void Start(string? machine) => Change(() => (_started, _machine) = (true, machine ?? _machine));

    /// <summary>All RAM blocks that the stream lists are known when the section that lists them has ended.</summary>
    internal void AddBlock(RamBlock block) => Change(() => _blocks[block.Name] = block);

    internal void CompleteBlocks()
    {
        if (!KnowsBlocks)
        {
            Change(() => _complete = true);
        }
    }

    internal void Deliver() => Change(() =>
    {
        _delivered = true;
        if (_phase is not RelayPhase.Acknowledged)
        {
            _phase = RelayPhase.Delivered;
        }
    });

    /// <summary>More came behind what was taken for the end.</summary>
    internal void TakeBackDelivery() => Change(() => _delivered = false);

    internal void Say(uint result) => Change(() => _targetSaid = result);

    internal void Acknowledge() => Change(() => (_acknowledged, _phase) = (true, RelayPhase.Acknowledged));

    internal void CountSwitchoverAck() => Change(() => _switchoverAcks++);

    internal void CountResumeAck() => Change(() => (_resumeAcks, _phase) = (_resumeAcks + 1, RelayPhase.Postcopy));

    internal void Strike(RelayFault fault) => Change(() => _struck.Add(fault));

    internal void Warn(string warning) => Change(() =>
    {
        // The peer decides how many there are.
        if (_warnings.Count < MostWarnings)
        {
            _warnings.Add(warning);
        }
    });

    internal void End(RelayPhase phase, Exception? failure) => Change(() => (_isRunning, _phase, _failure) = (false, phase, failure));

    /// <summary>Waits until the head of the main stream has been read.</summary>
    internal void WaitForStart(CancellationToken cancelled) => Wait(() => _started, cancelled);

    /// <summary>True once all RAM blocks of the main stream are known.</summary>
    internal bool KnowsBlocks => Volatile.Read(ref _complete);

    /// <summary>Waits until all RAM blocks of the main stream are known.</summary>
    internal void WaitForBlocks(CancellationToken cancelled) => Wait(() => _complete, cancelled);

    /// <summary>A RAM block of the main stream; null if it has none of that name.</summary>
    internal RamBlock? FindBlock(string name) => Read(() => _blocks.GetValueOrDefault(name));

    /// <summary>The compression of all packets with pages: that of the first one.</summary>
    internal PacketFlags AgreeOn(PacketFlags compression) => Read(() => _compression ??= compression);

    /// <summary>Waits for what must come before something is passed on.</summary>
    /// <param name="condition">True if it is there.</param>
    /// <param name="timeout">How long nothing may move meanwhile.</param>
    /// <param name="missing">Says what is missing.</param>
    /// <param name="cancelled">Ends the wait.</param>
    internal void Await(Func<bool> condition, TimeSpan timeout, Func<Exception> missing, CancellationToken cancelled)
    {
        long seen = Interlocked.Read(ref _moved);
        long since = Stopwatch.GetTimestamp();
        var look = timeout == Timeout.InfiniteTimeSpan ? timeout : TimeSpan.FromMilliseconds(Math.Clamp(timeout.TotalMilliseconds / 8, 5, 1000));
        using var wake = cancelled.UnsafeRegister(static state => ((RelayState)state!).Change(() => { }), this);
        lock (_lock)
        {
            while (!condition())
            {
                cancelled.ThrowIfCancellationRequested();
                Monitor.Wait(_lock, look);
                if (Interlocked.Read(ref _moved) is var moved && moved != seen)
                {
                    (seen, since) = (moved, Stopwatch.GetTimestamp());
                }
                else if (timeout != Timeout.InfiniteTimeSpan && Stopwatch.GetElapsedTime(since) > timeout && !condition())
                {
                    throw missing();
                }
            }
        }
    }

    private void Wait(Func<bool> condition, CancellationToken cancelled)
        => Await(condition, Timeout.InfiniteTimeSpan, static () => new UnreachableException(), cancelled);

    private T Read<T>(Func<T> read)
    {
        lock (_lock)
        {
            return read();
        }
    }
}

/// <summary>One connection as the status shows it.</summary>
internal sealed class RelayChannel(string name, int order)
{
    private long _bytes;
    private long _returnBytes;
    private long _elements;
    private long _syncs;

    internal string Name => name;

    internal int Order => order;

    /// <summary>True once the source has closed it.</summary>
    internal bool HasEnded { get; set; }

    /// <summary>What its first message said; null for one that is no multifd channel.</summary>
    internal ChannelInit? Init { get; init; }

    internal long Bytes => Interlocked.Read(ref _bytes);

    internal long Syncs => Interlocked.Read(ref _syncs);

    internal long NormalPages { get; set; }

    internal long ZeroPages { get; set; }

    internal long DevicePackets { get; set; }

    internal long Elements => Interlocked.Read(ref _elements);

    internal void Pass(int bytes) => Interlocked.Add(ref _bytes, bytes);

    internal void PassBack(int bytes) => Interlocked.Add(ref _returnBytes, bytes);

    internal void CountElement() => Interlocked.Increment(ref _elements);

    internal void CountSync() => Interlocked.Increment(ref _syncs);

    internal RelayChannelStatus Snapshot() => new(name, Bytes, Interlocked.Read(ref _returnBytes), Elements);
}
