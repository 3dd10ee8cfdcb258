using System.Runtime.InteropServices;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>A connection whose bytes count as progress.</summary>
internal sealed class CountedStream(Stream inner, ProgressWatch watch) : Stream
{
    /// <summary>The socket, if nothing lies between; TLS tells a reset by itself.</summary>
    internal SafeHandle? Socket => (inner as FdStream)?.Handle;

    /// <summary>Says that nothing more will be written; the other side can still answer, or close.</summary>
    internal void EndWriting()
    {
        if (inner is TlsStream tls)
        {
            tls.EndWriting();
        }
        else
        {
            ((FdStream)inner).EndWriting();
        }
    }

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override int Read(Span<byte> buffer)
    {
        int count = inner.Read(buffer);
        watch.Count(count);
        return count;
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        inner.Write(buffer);
        watch.Count(buffer.Length);
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush() => inner.Flush();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inner.Dispose();
        }

        base.Dispose(disposing);
    }
}
