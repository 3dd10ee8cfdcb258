using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Multifd;

/// <summary>
/// The one queue of a sending migration: whoever has a packet fills a buffer and puts it in, whichever channel is free
/// takes it out. Only so many buffers are out at a time, and those of the usual size go round, so that memory is bounded and
/// little is allocated on the way.
/// </summary>
internal sealed class DevicePacketQueue : IDisposable
{
    private readonly object _lock = new();
    private readonly Stack<byte[]> _free = new();
    private readonly Queue<(byte[] Buffer, int Length)> _full = new();
    private readonly CancellationToken _cancelled;
    private readonly CancellationTokenRegistration _wake;
    private readonly int _bufferSize;
    private int _left;
    private int _producers;

    /// <summary>Creates the queue.</summary>
    /// <param name="packetSize">The usual largest payload of a packet in bytes.</param>
    /// <param name="buffers">Packets under way at most.</param>
    /// <param name="producers">How many will call <see cref="Complete"/>.</param>
    /// <param name="cancelled">Ends every wait.</param>
    public DevicePacketQueue(int packetSize, int buffers, int producers, CancellationToken cancelled)
    {
        _bufferSize = DeviceStatePacket.Size + packetSize;
        _left = buffers;
        _producers = producers;
        _cancelled = cancelled;
        _wake = cancelled.UnsafeRegister(static state => ((DevicePacketQueue)state!).Wake(), this);
    }

    /// <summary>Waits for a buffer: room for the fixed part and then the payload.</summary>
    /// <param name="payload">Bytes of the payload; more than the usual size for a packet that needs it.</param>
    public byte[] Rent(int payload)
    {
        int size = Math.Max(_bufferSize, DeviceStatePacket.Size + payload);
        lock (_lock)
        {
            while (_left == 0)
            {
                _cancelled.ThrowIfCancellationRequested();
                Monitor.Wait(_lock);
            }

            _cancelled.ThrowIfCancellationRequested();
            _left--;
            return size == _bufferSize && _free.TryPop(out byte[]? buffer) ? buffer : GC.AllocateUninitializedArray<byte>(size);
        }
    }

    /// <summary>Puts a packet in, in a buffer that was rented here.</summary>
    public void Put(byte[] buffer, int length)
    {
        lock (_lock)
        {
            _full.Enqueue((buffer, length));
            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>One producer has finished.</summary>
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
        lock (_lock)
        {
            _left++;
            if (buffer.Length == _bufferSize)
            {
                _free.Push(buffer);
            }

            Monitor.PulseAll(_lock);
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
