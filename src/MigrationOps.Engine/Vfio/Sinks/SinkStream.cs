namespace MigrationOps.Engine.Vfio;

/// <summary>A stream that only takes bytes.</summary>
internal abstract class WriteOnlyStream : Stream
{
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

    protected abstract void Take(ReadOnlySpan<byte> data);
}

/// <summary>Gives what is written to a device's sink.</summary>
internal sealed class SinkStream(IDeviceStateSink sink) : WriteOnlyStream
{
    protected override void Take(ReadOnlySpan<byte> data) => sink.Write(data);
}

/// <summary>Writes what it takes as data blocks of a marker stream.</summary>
internal sealed class MarkerStream(MarkerWriter writer) : WriteOnlyStream
{
    protected override void Take(ReadOnlySpan<byte> data) => writer.WriteData(data);
}
