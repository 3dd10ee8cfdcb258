using System.Net.Security;

namespace MigrationOps.Engine.Wire;

/// <summary>
/// A connection inside TLS that fails as every other stream of the engine does. In TLS 1.3 a client learns only after its
/// handshake that the server refused its certificate: as a failed read or write, which says so.
/// </summary>
internal sealed class TlsStream(SslStream inner, FdStream connection) : Stream
{
    private readonly string _name = connection.Name;

    /// <summary>What TLS runs over; it stays this stream's.</summary>
    internal FdStream Connection => connection;

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
        try
        {
            return inner.Read(buffer);
        }
        catch (IOException e)
        {
            throw Failed(e);
        }
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        try
        {
            inner.Write(buffer);
        }
        catch (IOException e)
        {
            throw Failed(e);
        }
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    /// <summary>Every write has been sent when it returns.</summary>
    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    /// <summary>
    /// Tells the peer that nothing more comes, and waits until it has closed. A connection that is closed while something
    /// of the peer's is unread, such as the tickets of TLS 1.3, is reset, and what was sent last is lost.
    /// </summary>
    internal void End()
    {
        EndWriting();
        Span<byte> rest = stackalloc byte[256];
        while (Read(rest) > 0)
        {
            // Nothing that a peer says here means anything.
        }
    }

    /// <summary>Tells the peer that nothing more comes; it can still answer.</summary>
    internal void EndWriting()
    {
        try
        {
            inner.ShutdownAsync().GetAwaiter().GetResult();
        }
        catch (IOException e)
        {
            throw Failed(e);
        }

        connection.EndWriting();
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inner.Dispose();
        }

        base.Dispose(disposing);
    }

    // The connection's own failure passes as it is. An alert of the peer or a damaged record has another cause inside, an
    // end in the middle of a record has none.
    private Exception Failed(IOException e)
    {
        switch (e.InnerException)
        {
            case WireException or OperationCanceledException:
                return e.InnerException;
            case null:
                return new WireException(WireError.Disconnected,
                    $"{_name}: the peer cut the connection inside TLS: {e.Message.TrimEnd('.')}.", e)
                { Target = _name };
            default:
                return new WireException(WireError.TlsFailed,
                    $"{_name}: TLS failed after the handshake, the peer may have refused our certificate: {e.InnerException.Message.TrimEnd('.')}.", e)
                { Target = _name };
        }
    }
}
