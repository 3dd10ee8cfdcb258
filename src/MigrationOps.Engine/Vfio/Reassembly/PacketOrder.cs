using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// Which packets of one device have come, and which is due: refuses an invalid index, and keeps packets that are early.
/// Whoever uses it holds the device's lock.
/// </summary>
internal sealed class PacketOrder(uint window, PacketBudget budget)
{
    private readonly Dictionary<uint, HeldPacket> _held = [];
    private uint? _configIndex;
    private uint _seenAbove;
    private uint _lowestAbsent;

    /// <summary>Index of the packet that is due.</summary>
    internal uint Next { get; private set; }

    /// <summary>Packets that have come, the config packet included.</summary>
    internal long Packets { get; private set; }

    /// <summary>Packets that came before one of a lower index.</summary>
    internal long OutOfOrder { get; private set; }

    /// <summary>True if nothing but the config packet is left.</summary>
    internal bool IsConfigDue => _configIndex == Next;

    /// <summary>Takes note of a packet whose header has been read; its bytes are still on their way.</summary>
    /// <param name="header">Its header.</param>
    /// <param name="nextIsTaken">True while the packet that is due is being delivered, and no longer kept here.</param>
    /// <param name="isDone">True if the device is complete.</param>
    /// <param name="place">Names device, channel and offset in errors.</param>
    internal void Admit(VfioPacketHeader header, bool nextIsTaken, bool isDone, in PacketPlace place)
    {
        uint index = header.Index;
        if (_held.ContainsKey(index) || index == _configIndex || (nextIsTaken && index == Next))
        {
            throw place.Fail(header.IsConfig && index == _configIndex ? StreamError.DuplicateConfig : StreamError.DuplicateIndex,
                "the index is present already", index);
        }

        if (header.IsConfig && _configIndex is { } other)
        {
            throw place.Fail(StreamError.DuplicateConfig, $"a config packet with index {other} is present already", index);
        }

        if (index > Next && index - Next > window)
        {
            throw place.Fail(StreamError.IndexBeyondWindow, $"packet {Next} is due, and the window is {window:N0}", index);
        }

        if (_configIndex < index)
        {
            throw place.Fail(StreamError.PacketAfterConfig, $"the config packet has index {_configIndex} and is the last", index);
        }

        if (index < Next || isDone)
        {
            throw place.Fail(StreamError.IndexBehind, $"the packets before {Next} have been delivered already", index);
        }

        if (header.IsConfig && index < _seenAbove)
        {
            throw place.Fail(StreamError.ConfigTooEarly, $"the config packet is the last, but packet {_seenAbove - 1} is present", index);
        }

        if (!budget.TryTrack())
        {
            throw VfioException.At(VfioError.TooManyOutOfOrder, place,
                $"so many packets wait for packet {Next} that the budget of {budget.Limit:N0} bytes cannot keep track of them", index);
        }

        Note(index, header.IsConfig);
    }

    /// <summary>The bytes of a packet have come.</summary>
    internal void Keep(uint index, in HeldPacket packet) => _held[index] = packet;

    /// <summary>The packet that is due is no longer kept here: a caller delivers it.</summary>
    internal void Take() => _held.Remove(Next);

    /// <summary>Takes the packet that is due, if all of it is there.</summary>
    internal bool TryTake(out HeldPacket packet)
        => _held.TryGetValue(Next, out packet) && packet.IsReady && _held.Remove(Next);

    /// <summary>The packet that was due has been delivered.</summary>
    internal void Advance()
    {
        Next++;
        budget.Untrack();
    }

    /// <summary>What is missing, if it is a data packet; null if only the config packet is.</summary>
    internal string? DescribeGap()
    {
        int later = _held.Count + (_configIndex is null ? 0 : 1);
        return _held.Count == 0 && !(_configIndex > Next) ? null
            : $"packet {Next} is missing; {later} later {(later == 1 ? "packet" : "packets")} (up to index {_seenAbove - 1}) {(later == 1 ? "is" : "are")} waiting";
    }

    /// <summary>Gives up everything that is kept.</summary>
    internal IReadOnlyCollection<HeldPacket> Clear()
    {
        HeldPacket[] held = [.. _held.Values];
        _held.Clear();
        return held;
    }

    private void Note(uint index, bool isConfig)
    {
        if (isConfig)
        {
            _configIndex = index;
        }
        else
        {
            _held.Add(index, HeldPacket.OnItsWay);
        }

        _seenAbove = Math.Max(_seenAbove, index + 1);
        Packets++;
        OutOfOrder += index != _lowestAbsent ? 1 : 0;
        while (_held.ContainsKey(_lowestAbsent) || _configIndex == _lowestAbsent)
        {
            _lowestAbsent++;
        }
    }
}
