using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Walks a return path without I/O: messages, and the bitmap that follows one of them.</summary>
/// <param name="onMessage">Told of each message and where it lies, before what follows it.</param>
internal sealed class ReturnPathWalker(Action<ReturnPathMessage, long> onMessage) : IByteConsumer
{
    private string? _block;
    private bool _hasLength;
    private long _bitmapLeft;

    /// <summary>The offset of the next byte.</summary>
    public long Offset { get; private set; }

    /// <inheritdoc/>
    public long PendingSkip => _bitmapLeft;

    /// <inheritdoc/>
    public void Skipped(long count)
    {
        _bitmapLeft -= count;
        Offset += count;
    }

    /// <inheritdoc/>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidReturnPath"/>.</exception>
    public int Feed(ReadOnlySpan<byte> data, bool last)
    {
        var reader = WireReader.BigEndian(data, Offset);
        try
        {
            while (Step(ref reader))
            {
            }
        }
        finally
        {
            Offset += reader.Position;
        }

        return reader.Position;
    }

    private bool Step(ref WireReader reader)
    {
        if (_block is null)
        {
            long offset = reader.Offset;
            if (!ReturnPathCodec.TryRead(ref reader, out var message))
            {
                return false;
            }

            _block = message.Type != ReturnPathMessageType.ReceivedBitmap ? null
                : PostcopyCodec.ParseName(message.Data) ?? throw ReturnPathCodec.Invalid(offset, "RECV_BITMAP on the return path names no block");
            onMessage(message, offset);
            return true;
        }

        if (!_hasLength)
        {
            return _hasLength = PostcopyCodec.TryReadBitmapLength(ref reader, _block, out _bitmapLeft);
        }

        int count = (int)Math.Min(_bitmapLeft, reader.Remaining);
        reader.TryReadBytes(count, out _);
        _bitmapLeft -= count;
        if (_bitmapLeft > 0 || !PostcopyCodec.TryReadBitmapEnd(ref reader, _block))
        {
            return false;
        }

        (_block, _hasLength) = (null, false);
        return true;
    }
}
