namespace MigrationOps.Engine.Wire;

/// <summary>
/// What a TLS server's connection runs over: holds back the tickets for a resumption, which a TLS 1.3 server sends at the end of the
/// handshake, until it has something else to send.
/// </summary>
/// <remarks>
/// A peer that never reads - QEMU as a source without return-path - leaves the tickets unread in its socket. When it closes, its
/// system then resets the connection instead of ending it, and what it sent last is lost. The platform has no switch for the tickets.
/// They cannot be dropped, for the numbers of the records that follow count them; but nothing has to follow.
/// </remarks>
internal sealed class TlsTickets(FdStream inner) : Stream
{
    // Encrypted records of TLS 1.3. What a server sends earlier in a handshake starts with a record in the clear.
    private const byte ApplicationData = 23;

    private byte[] _held = [];
    private bool _handshakes = true;

    public override bool CanRead => inner.CanRead;

    public override bool CanWrite => inner.CanWrite;

    public override bool CanSeek => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>The handshake has ended: what is written from now on goes out, and what was held goes before it.</summary>
    internal void EndHandshake() => _handshakes = false;

    public override int Read(Span<byte> buffer) => inner.Read(buffer);

    public override int Read(byte[] buffer, int offset, int count) => inner.Read(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        if (_handshakes && !buffer.IsEmpty && buffer[0] == ApplicationData)
        {
            _held = [.. _held, .. buffer];
            return;
        }

        if (_held.Length > 0)
        {
            inner.Write(_held);
            _held = [];
        }

        inner.Write(buffer);
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
