namespace MigrationOps.Engine.Vhost;

/// <summary>A transfer's channel that counts its bytes and breaks off at the one that was ordered.</summary>
internal sealed class FaultyStream(Stream inner, VhostBackendFault fault, Action<int> count) : Stream
{
    private long _left = fault.Kind is VhostBackendFaultKind.Stall or VhostBackendFaultKind.Close or VhostBackendFaultKind.FailAtByte
        ? fault.AtByte
        : long.MaxValue;

    public override bool CanRead => inner.CanRead;

    public override bool CanWrite => inner.CanWrite;

    public override bool CanSeek => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override int Read(Span<byte> buffer)
    {
        if (_left == 0)
        {
            throw new FaultException();
        }

        int read = inner.Read(buffer[..(int)Math.Min(buffer.Length, _left)]);
        Counted(read);
        return read;
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        int most = (int)Math.Min(buffer.Length, _left);
        inner.Write(buffer[..most]);
        Counted(most);
        if (most < buffer.Length || _left == 0)
        {
            throw new FaultException();
        }
    }

    public override int Read(byte[] buffer, int offset, int size) => Read(buffer.AsSpan(offset, size));

    public override void Write(byte[] buffer, int offset, int size) => Write(buffer.AsSpan(offset, size));

    public override void Flush() => inner.Flush();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    private void Counted(int bytes)
    {
        _left -= bytes;
        count(bytes);
    }

    /// <summary>The ordered byte was reached.</summary>
    internal sealed class FaultException : Exception;
}
