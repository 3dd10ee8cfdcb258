namespace MigrationOps.Engine.Wire;

/// <summary>A stream that only takes bytes.</summary>
internal abstract class WriteOnlyStream : Stream
{
    /// <summary>Bytes that were taken.</summary>
    internal long Bytes { get; private set; }

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override void Write(ReadOnlySpan<byte> data)
    {
        Take(data);
        Bytes += data.Length;
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    /// <summary>Takes bytes, all of them.</summary>
    protected abstract void Take(ReadOnlySpan<byte> data);
}
