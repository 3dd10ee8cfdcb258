using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Wire;

/// <summary>A connection whose bytes count as progress.</summary>
internal sealed class CountedStream(Stream inner, TransferScope transfer) : Stream
{
    /// <summary>Waits until the peer has closed, and tells whether it has read everything that was written.</summary>
    /// <remarks>
    /// A target that has fewer channels accepts the connection and drops it unread, and continues without its contents.
    /// Closing a socket with unread bytes in it resets the connection; one that was read to the end closes in order.
    /// </remarks>
    /// <param name="scope">How long, and cancellation.</param>
    /// <param name="waitingFor">What the error of a wait names.</param>
    /// <param name="cause">What says so, if the system told it.</param>
    internal bool WasDropped(TransferScope scope, string waitingFor, out Exception? cause)
    {
        cause = null;
        try
        {
            // TLS tells a reset by itself.
            if (inner is FdStream socket
                && scope.Wait(socket.Handle, PollEvents.Readable, scope.StartDeadline(), waitingFor).HasFlag(PollEvents.Error))
            {
                return true;
            }

            Span<byte> one = stackalloc byte[1];
            while (Read(one) > 0)
            {
                // TLS closes with a message of its own; a target sends nothing else on a channel.
            }

            return false;
        }
        catch (Exception e) when (e is WireException { Reason: WireError.Disconnected } or IOException)
        {
            cause = e;
            return true;
        }
    }

    /// <summary>Waits until the peer's system has taken everything that was written, or the peer has closed.</summary>
    /// <returns>False if the peer has closed.</returns>
    internal bool WaitUntilTaken() => Socket?.WasTaken() != false;

    /// <summary>True if the peer ends the connection before the moment.</summary>
    internal bool EndsUntil(TransferScope scope, Deadline moment)
        => Socket is { } socket && scope.TryWait(socket.Handle, PollEvents.PeerEnded, moment) != PollEvents.None;

    /// <summary>The process that listened at the other end, if it can be seen from here.</summary>
    internal PeerProcessInfo? Peer => Socket is { } socket ? PeerProcessInfo.OfListener(socket) : null;

    private FdStream? Socket => inner as FdStream ?? (inner as TlsStream)?.Connection;

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
        transfer.Count(count);
        return count;
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        inner.Write(buffer);
        transfer.Count(buffer.Length);
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
