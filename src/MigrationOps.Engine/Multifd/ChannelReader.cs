using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>
/// Reads a channel: small reads for the fixed parts of packets, large ones for their data straight to their destination.
/// One thread uses it.
/// </summary>
internal sealed class ChannelReader : IDisposable
{
    // Enough for the fixed part of any packet, small enough that the data behind it is seldom copied twice.
    private const int HeaderRead = 4096;

    // Stays in the processor's cache between the kernel's copy and ours.
    private const int BulkRead = 128 * 1024;

    private readonly Stream _stream;
    private readonly Action<int>? _moved;
    private byte[] _buffer;
    private int _start;
    private int _end;
    private Stream? _record;

    /// <summary>Takes over a stream.</summary>
    /// <param name="stream">The channel; disposed with the reader.</param>
    /// <param name="name">What errors call it.</param>
    /// <param name="moved">Told after each read how many bytes came.</param>
    public ChannelReader(Stream stream, string name, Action<int>? moved = null)
    {
        _stream = stream;
        _buffer = new byte[BulkRead];
        _moved = moved;
        Name = name;
    }

    private ChannelReader(string name)
    {
        _stream = Stream.Null;
        _buffer = [];
        Name = name;
    }

    /// <summary>A reader of packets that were read elsewhere, one after another: see <see cref="Load"/>.</summary>
    /// <param name="name">What errors call it.</param>
    internal static ChannelReader OfPackets(string name) => new(name);

    /// <summary>The next packet is to be read where it lies, from its first byte to its last.</summary>
    /// <param name="packet">The packet; it stays the caller's, and must not change while it is read.</param>
    internal void Load(ArraySegment<byte> packet)
    {
        _buffer = packet.Array ?? [];
        (_start, _end) = (packet.Offset, packet.Offset + packet.Count);
    }

    /// <summary>What errors call it.</summary>
    public string Name { get; set; }

    /// <summary>Offset of the next byte.</summary>
    public long Offset { get; private set; }

    /// <summary>What has arrived and has not been used.</summary>
    public ReadOnlySpan<byte> Buffered => _buffer.AsSpan(_start, _end - _start);

    /// <summary>A reader of what is buffered, which uses up nothing.</summary>
    /// <param name="from">How many of the bytes have been read before.</param>
    internal WireReader Bytes(int from = 0) => WireReader.BigEndian(Buffered[from..], Offset + from, Name);

    /// <summary>The stream, for an answer to the peer.</summary>
    public Stream Stream => _stream;

    /// <summary>Keeps everything that is read from now on, and what is buffered already. Disposed with the reader.</summary>
    public void RecordTo(Stream? record)
    {
        _record = record;
        record?.Write(Buffered);
    }

    /// <summary>Waits until so many bytes are buffered.</summary>
    /// <param name="count">How many.</param>
    /// <param name="ahead">How many to ask for at once, if they are there.</param>
    /// <returns>False if the channel ended before.</returns>
    public bool Fill(int count, int ahead = HeaderRead)
    {
        while (_end - _start < count)
        {
            int wanted = Math.Max(count, ahead);
            if (_start + wanted > _buffer.Length)
            {
                MakeRoom(wanted);
            }

            int room = Math.Min(_buffer.Length - _end, wanted);
            int read = Read(_buffer.AsSpan(_end, room));
            if (read == 0)
            {
                return false;
            }

            _end += read;
        }

        return true;
    }

    /// <summary>Waits until the fixed part of a packet is buffered.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.Truncated"/> if the channel ended before.</exception>
    public void Require(int count, string what)
    {
        if (!Fill(count))
        {
            throw Truncated(what, count, Buffered.Length);
        }
    }

    /// <summary>Uses up buffered bytes.</summary>
    public void Advance(int count)
    {
        _start += count;
        Offset += count;
        if (_start == _end)
        {
            _start = _end = 0;
        }
    }

    /// <summary>Reads bytes into their destination.</summary>
    public void ReadExactly(Span<byte> destination, string what)
    {
        int total = destination.Length;
        int buffered = Math.Min(total, _end - _start);
        _buffer.AsSpan(_start, buffered).CopyTo(destination);
        Advance(buffered);
        int filled = buffered;
        while (filled < total)
        {
            int read = ReadBeyond(destination[filled..]);
            if (read == 0)
            {
                throw Truncated(what, total, filled);
            }

            filled += read;
            Offset += read;
        }
    }

    /// <summary>Waits for the next bytes of something long, to be used where they lie.</summary>
    /// <param name="most">Its length in bytes.</param>
    /// <param name="what">What it is.</param>
    /// <returns>At least one byte; <see cref="Advance"/> uses them up.</returns>
    public ReadOnlySpan<byte> Next(long most, string what)
    {
        if (_start == _end)
        {
            if (_buffer.Length < BulkRead)
            {
                _buffer = GC.AllocateUninitializedArray<byte>(BulkRead);
            }

            // A little beyond, so that the head of what follows comes along without a read of its own.
            _end = Read(_buffer.AsSpan(0, (int)Math.Min(most + HeaderRead, _buffer.Length)));
            if (_end == 0)
            {
                throw Truncated(what, most, 0);
            }
        }

        return _buffer.AsSpan(_start, (int)Math.Min(most, _end - _start));
    }

    /// <summary>Passes bytes over.</summary>
    public void Skip(long count, string what)
    {
        for (long left = count; left > 0;)
        {
            int passed = Next(left, what).Length;
            Advance(passed);
            left -= passed;
        }
    }

    /// <summary>Passes over whatever comes, until the channel ends or the next byte is not there yet.</summary>
    /// <param name="whileReadable">Asked before each read; null to read to the end.</param>
    /// <returns>True if the channel has ended.</returns>
    internal bool Drain(Func<bool>? whileReadable = null)
    {
        while (true)
        {
            Drained += Buffered.Length;
            Advance(Buffered.Length);
            if (whileReadable?.Invoke() == false)
            {
                return false;
            }

            if (!Fill(1))
            {
                return true;
            }
        }
    }

    /// <summary>Bytes that <see cref="Drain"/> has passed over.</summary>
    internal long Drained { get; private set; }

    /// <inheritdoc/>
    public void Dispose()
    {
        _stream.Dispose();
        _record?.Dispose();
    }

    private int Read(Span<byte> destination)
    {
        int read = _stream.Read(destination);
        _moved?.Invoke(read);
        _record?.Write(destination[..read]);
        return read;
    }

    // What follows the destination's bytes - the head of the next packet - comes along without a call of its own. Nothing is
    // buffered at this point.
    private int ReadBeyond(Span<byte> destination)
    {
        if (_stream is not FdStream { WaitsInKernel: true } socket)
        {
            return Read(destination);
        }

        int read = socket.Receive(destination, _buffer.AsSpan(0, HeaderRead));
        _end = Math.Max(0, read - destination.Length);
        read -= _end;
        _moved?.Invoke(read + _end);
        _record?.Write(destination[..read]);
        _record?.Write(Buffered);
        return read;
    }

    private void MakeRoom(int count)
    {
        int length = _end - _start;
        byte[] target = count <= _buffer.Length ? _buffer : new byte[Math.Max(count, 2 * _buffer.Length)];
        Buffered.CopyTo(target);
        _buffer = target;
        (_start, _end) = (0, length);
    }

    private StreamException Truncated(string what, long needed, long had)
        => StreamException.In(StreamError.Truncated, Name, Offset + (had < needed ? Buffered.Length : 0),
            $"the channel ends inside {what}: {needed:N0} bytes are needed, {had:N0} came");
}
