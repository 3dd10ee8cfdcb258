namespace MigrationOps.Engine.Qemu;

/// <summary>
/// Which packets of one VFIO device have come, and which is due: refuses an invalid index, and keeps packets that are early. Receipts and
/// recordings are judged by the same rules. Whoever uses it from several threads holds the device's lock.
/// </summary>
/// <typeparam name="T">What is kept of a packet that waits for its turn.</typeparam>
/// <param name="window">How far ahead of the due packet one may be.</param>
internal sealed class PacketOrder<T>(uint window = uint.MaxValue)
{
    private readonly Dictionary<uint, T> _held = [];
    private uint? _configIndex;
    private uint _seenAbove;
    private uint _lowestAbsent;
    private bool _nextIsTaken;

    /// <summary>Index of the packet that is due.</summary>
    internal uint Next { get; private set; }

    /// <summary>Packets that have come, the config packet included.</summary>
    internal long Packets { get; private set; }

    /// <summary>Packets that came before one of a lower index.</summary>
    internal long OutOfOrder { get; private set; }

    /// <summary>True if nothing but the config packet is left.</summary>
    internal bool IsConfigDue => _configIndex == Next;

    /// <summary>Looks whether a packet may come now.</summary>
    /// <param name="header">Its header.</param>
    /// <param name="isDone">True if the device is complete.</param>
    /// <param name="place">Names device, channel and offset in errors.</param>
    /// <exception cref="StreamException">It comes twice, after the device's last packet, or too far ahead.</exception>
    internal void Check(VfioPacketHeader header, bool isDone, in PacketPlace place)
    {
        uint index = header.Index;
        if (_held.ContainsKey(index) || index == _configIndex || (_nextIsTaken && index == Next))
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
    }

    /// <summary>Takes note of a packet that <see cref="Check"/> has passed.</summary>
    /// <param name="header">Its header.</param>
    /// <param name="packet">What is kept of a data packet until it is due; of the config packet its user keeps what it wants.</param>
    internal void Add(VfioPacketHeader header, T packet)
    {
        uint index = header.Index;
        if (header.IsConfig)
        {
            _configIndex = index;
        }
        else
        {
            _held.Add(index, packet);
        }

        _seenAbove = Math.Max(_seenAbove, index + 1);
        Packets++;
        OutOfOrder += index != _lowestAbsent ? 1 : 0;
        while (_held.ContainsKey(_lowestAbsent) || _configIndex == _lowestAbsent)
        {
            _lowestAbsent++;
        }
    }

    /// <summary>Replaces what is kept of a packet, whose bytes have come.</summary>
    internal void Keep(uint index, in T packet) => _held[index] = packet;

    /// <summary>What is kept of the packet that is due, if it has come.</summary>
    internal bool TryGetDue([System.Diagnostics.CodeAnalysis.MaybeNullWhen(false)] out T packet) => _held.TryGetValue(Next, out packet);

    /// <summary>The packet that is due is no longer kept here: the caller delivers it, and then calls <see cref="Advance"/>.</summary>
    internal void Take()
    {
        _held.Remove(Next);
        _nextIsTaken = true;
    }

    /// <summary>The packet that was due has been delivered.</summary>
    internal void Advance()
    {
        Next++;
        _nextIsTaken = false;
    }

    /// <summary>The failure of a device whose last packet has come: a data packet is missing, or the config packet.</summary>
    internal StreamException FindMissing(string device)
    {
        int later = _held.Count + (_configIndex is null ? 0 : 1);
        return _held.Count == 0 && !(_configIndex > Next)
            ? new StreamException(StreamError.MissingConfig, $"{device}: the config state is missing after {Packets:N0} packets.") { Section = device }
            : new StreamException(StreamError.MissingPacket, $"{device}: packet {Next} is missing; {later} later {(later == 1 ? "packet" : "packets")} "
                + $"(up to index {_seenAbove - 1}) {(later == 1 ? "is" : "are")} waiting.")
            { Section = device };
    }

    /// <summary>Gives up everything that is kept.</summary>
    internal IReadOnlyCollection<T> Clear()
    {
        T[] held = [.. _held.Values];
        _held.Clear();
        return held;
    }
}
