namespace MigrationOps.Engine.Multifd;

/// <summary>
/// The one queue of a sending migration: whoever has a packet fills a buffer and puts it in, whichever channel is free
/// takes it out. The buffers go round, so that memory is bounded and nothing is allocated on the way.
/// </summary>
public sealed class DevicePacketQueue : IDisposable
{
    private readonly object _lock = new();
    private readonly Stack<byte[]> _free = new();
    private readonly Queue<(byte[] Buffer, int Length)> _full = new();
    private readonly CancellationToken _cancelled;
    private readonly CancellationTokenRegistration _wake;
    private readonly int _bufferSize;
    private int _producers;

    /// <summary>Creates the queue.</summary>
    /// <param name="packetSize">The largest payload of a packet in bytes.</param>
    /// <param name="buffers">Packets under way at most.</param>
    /// <param name="producers">How many will call <see cref="Complete"/>.</param>
    /// <param name="cancelled">Ends every wait.</param>
    public DevicePacketQueue(int packetSize, int buffers, int producers, CancellationToken cancelled)
    {
        _bufferSize = DeviceStatePacket.Size + packetSize;
        _producers = producers;
        _cancelled = cancelled;
        for (int i = 0; i < buffers; i++)
        {
            _free.Push(GC.AllocateUninitializedArray<byte>(_bufferSize));
        }

        _wake = cancelled.UnsafeRegister(static state => ((DevicePacketQueue)state!).Wake(), this);
    }

    /// <summary>Waits for a free buffer: room for the fixed part and then the payload.</summary>
    public byte[] Rent()
    {
        lock (_lock)
        {
            while (_free.Count == 0)
            {
                _cancelled.ThrowIfCancellationRequested();
                Monitor.Wait(_lock);
            }

            return _free.Pop();
        }
    }

    /// <summary>Puts a packet in. A buffer that was not rented here may be larger; it does not go round.</summary>
    public void Put(byte[] buffer, int length)
    {
        lock (_lock)
        {
            _full.Enqueue((buffer, length));
            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>One producer has no more.</summary>
    public void Complete()
    {
        lock (_lock)
        {
            _producers--;
            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>Writes one channel: the init message, and packets as long as there are any.</summary>
    /// <param name="init">The channel's init message.</param>
    /// <param name="channel">The channel.</param>
    public void Drain(ChannelInit init, Stream channel)
    {
        ArgumentNullException.ThrowIfNull(channel);
        byte[] first = new byte[ChannelInit.Size];
        init.Write(first);
        channel.Write(first);
        while (TryTake(out byte[] buffer, out int length))
        {
            channel.Write(buffer.AsSpan(0, length));
            Return(buffer);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _wake.Dispose();

    private bool TryTake(out byte[] buffer, out int length)
    {
        lock (_lock)
        {
            while (_full.Count == 0)
            {
                _cancelled.ThrowIfCancellationRequested();
                if (_producers == 0)
                {
                    (buffer, length) = ([], 0);
                    return false;
                }

                Monitor.Wait(_lock);
            }

            (buffer, length) = _full.Dequeue();
            return true;
        }
    }

    private void Return(byte[] buffer)
    {
        if (buffer.Length == _bufferSize)
        {
            lock (_lock)
            {
                _free.Push(buffer);
                Monitor.PulseAll(_lock);
            }
        }
    }

    private void Wake()
    {
        lock (_lock)
        {
            Monitor.PulseAll(_lock);
        }
    }
}
