using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Relay;

/// <summary>
/// Passes one direction of one connection on: reads what has come, has it checked, and writes what has been checked from the same
/// buffer. An element that is not whole stays until it is; the data behind it, which is not looked at, follows as it comes. One thread uses it.
/// </summary>
/// <param name="from">Where bytes come from.</param>
/// <param name="flow">Whether they may pass.</param>
/// <param name="isLimited">True towards the target.</param>
/// <param name="passed">Told how many bytes were passed on.</param>
/// <param name="cancelled">Ends every wait.</param>
internal sealed class RelayPump(Stream from, RelayFlow flow, bool isLimited, Action<int> passed, CancellationToken cancelled)
{
    private const int BufferSize = 256 << 10;

    // The longest element: the config state of a device, with its packet around it.
    private const int LargestBuffer = ConfigState.Limit + (1 << 20);

    private readonly List<(long Offset, Action Run)> _actions = [];
    private readonly List<(long Offset, byte[] Bytes, bool Invert)> _changes = [];
    private Stream? _record;
    private byte[] _buffer = new byte[BufferSize];
    private long _base;
    private int _passed;
    private int _checked;
    private int _end;

    /// <summary>Where bytes go; to be set before <see cref="Run"/>.</summary>
    internal Stream To { get; set; } = Stream.Null;

    /// <summary>True while bytes are left out instead of passed on.</summary>
    internal bool IsDropping { get; set; }

    /// <summary>True while bytes are being checked, also after that has failed.</summary>
    internal bool IsChecking { get; private set; }

    /// <summary>True if the sending side has ended.</summary>
    internal bool LostSender { get; private set; }

    /// <summary>True if the receiving side closed the connection.</summary>
    internal bool LostReceiver { get; private set; }

    /// <summary>What has been read and not passed on.</summary>
    internal ReadOnlySpan<byte> Waiting => _buffer.AsSpan(_passed, _end - _passed);

    /// <summary>Keeps what was read and will be, as it was read.</summary>
    /// <param name="record">Takes it; disposed by <see cref="EndRecord"/>. Null to keep nothing.</param>
    internal void RecordTo(Stream? record)
    {
        _record = record;
        record?.Write(Waiting);
    }

    internal void EndRecord() => _record?.Dispose();

    /// <summary>Does something when all bytes before this one have been passed on, and none from it on.</summary>
    internal void At(long offset, Action action)
    {
        int place = _actions.FindLastIndex(a => a.Offset <= offset);
        _actions.Insert(place + 1, (offset, action));
    }

    /// <summary>Changes bytes on their way, from this one on; null inverts one.</summary>
    internal void Change(long offset, byte[]? bytes) => _changes.Add((offset, bytes ?? [0xff], bytes is null));

    /// <summary>Waits for more bytes.</summary>
    /// <returns>False if the sending side has ended.</returns>
    internal bool Fill()
    {
        MakeRoom();
        int count;
        try
        {
            count = from.Read(_buffer.AsSpan(_end));
        }
        catch (WireException e) when (e.Reason == WireError.Disconnected)
        {
            // A reset says no more than an end does.
            return false;
        }

        _record?.Write(_buffer.AsSpan(_end, count));
        _end += count;
        return count > 0;
    }

    /// <summary>Passes everything on, to the end.</summary>
    /// <param name="walker">Checks it; null for bytes that cannot be read.</param>
    /// <returns>False if the receiving side closed the connection before the sending one.</returns>
    /// <exception cref="StreamException">The bytes are not what they have to be; nothing of the element has been passed on.</exception>
    internal bool Run(IByteConsumer? walker)
    {
        do
        {
            Check(walker, last: false);
            if (!PassUntil(_checked) || !PassWhatIsSearched(walker))
            {
                return false;
            }
        }
        while (Fill());
        LostSender = true;
        Check(walker, last: true);
        return PassUntil(_end);
    }

    private void Check(IByteConsumer? walker, bool last)
    {
        IsChecking = true;
        _checked = walker is null ? _end : _checked + walker.Feed(_buffer.AsSpan(_checked, _end - _checked), last);
        IsChecking = false;
    }

    // Bytes that are only looked through for a section's end: their sender may wait for an answer before it sends more.
    private bool PassWhatIsSearched(IByteConsumer? walker)
        => _passed == _end || walker is not StreamWalker { IsSearching: true }
            || (from is FdStream socket && socket.IsReadableUntil(new Deadline(TimeSpan.Zero))) || PassUntil(_end);

    private bool PassUntil(int limit)
    {
        while (true)
        {
            long at = _base + _passed;
            while (_actions.Count > 0 && _actions[0].Offset <= at)
            {
                var run = _actions[0].Run;
                _actions.RemoveAt(0);
                run();
            }

            if (_passed >= limit)
            {
                return true;
            }

            int count = limit - _passed;
            if (_actions.Count > 0)
            {
                count = (int)Math.Min(count, _actions[0].Offset - at);
            }

            if (!Write(at, _buffer.AsSpan(_passed, count)))
            {
                return false;
            }

            _passed += count;
        }
    }

    private bool Write(long offset, Span<byte> bytes)
    {
        foreach (var change in _changes)
        {
            for (int i = 0; i < change.Bytes.Length; i++)
            {
                if (change.Offset + i - offset is >= 0 and var place && place < bytes.Length)
                {
                    bytes[(int)place] = (byte)(change.Invert ? bytes[(int)place] ^ change.Bytes[i] : change.Bytes[i]);
                }
            }
        }

        while (!bytes.IsEmpty && !IsDropping)
        {
            int count = flow.Take(bytes.Length, isLimited, cancelled);
            try
            {
                To.Write(bytes[..count]);
            }
            catch (WireException e) when (e.Reason == WireError.Disconnected)
            {
                LostReceiver = true;
                return false;
            }

            passed(count);
            bytes = bytes[count..];
        }

        return true;
    }

    private void MakeRoom()
    {
        int kept = Math.Min(_passed, _checked);
        if (kept > 0)
        {
            _buffer.AsSpan(kept, _end - kept).CopyTo(_buffer);
            (_base, _passed, _checked, _end) = (_base + kept, _passed - kept, _checked - kept, _end - kept);
        }

        if (_end == _buffer.Length)
        {
            if (_end >= LargestBuffer)
            {
                throw new StreamException(StreamError.LimitExceeded, $"An element at byte {_base:N0} is longer than {LargestBuffer:N0} bytes.") { ByteOffset = _base };
            }

            Array.Resize(ref _buffer, Math.Min(2 * _buffer.Length, LargestBuffer));
        }
    }
}
