using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Wire;

/// <summary>
/// A stream over any descriptor - pipe, socket, file - whose every wait has the deadline and the cancellation of its
/// <see cref="TransferScope"/>. It owns the descriptor. Reads and writes are synchronous: whoever wants them elsewhere gives
/// them a thread, as the transfers do.
/// </summary>
internal sealed class FdStream : Stream
{
    // A larger value saves no further sleeps, and costs those who have to wait for the network.
    private const int Looks = 2;

    // No event says that a system has taken the last byte.
    private static readonly TimeSpan s_betweenLooks = TimeSpan.FromMilliseconds(10);

    private readonly TransferScope _scope;
    private readonly IDisposable? _owner;
    private readonly bool _alwaysReady;
    private readonly CancellationTokenRegistration _wake;

    /// <summary>Takes over a descriptor.</summary>
    /// <param name="handle">The descriptor; closed with the stream.</param>
    /// <param name="access">Which directions are used. A pipe or socket that is written to is made non-blocking.</param>
    /// <param name="scope">Deadline and cancellation; it must live as long as the stream is used.</param>
    /// <param name="name">What errors call it.</param>
    public FdStream(SafeHandle handle, FileAccess access, TransferScope scope, string name)
        : this(handle, access, scope, name, owner: null)
    {
    }

    internal FdStream(SafeHandle handle, FileAccess access, TransferScope scope, string name, IDisposable? owner, bool waitsInKernel = false)
    {
        ArgumentNullException.ThrowIfNull(handle);
        Handle = handle;
        Name = name;
        _scope = scope;
        _owner = owner;
        CanRead = access.HasFlag(FileAccess.Read);
        CanWrite = access.HasFlag(FileAccess.Write);
        Kind = FileKinds.Of(handle, name);
        _alwaysReady = Kind == FileKind.Regular;
        WaitsInKernel = waitsInKernel;
        if (CanWrite && _alwaysReady)
        {
            FileSizeSignal.BecomesError();
        }
        else if (waitsInKernel)
        {
            // The platform makes what a non-blocking listener accepts non-blocking too.
            Fcntl.SetBlocking(handle, name);
            if (scope.Timeout != Timeout.InfiniteTimeSpan)
            {
                SocketCalls.SetReceiveTimeout(handle, scope.Timeout, name);
            }

            _wake = scope.CancellationToken.UnsafeRegister(
                static state => SocketCalls.ShutdownRead(((FdStream)state!).Handle, ((FdStream)state).Name), this);
        }
        else if (CanWrite)
        {
            // A blocking write of more than fits would wait in the kernel, out of reach of deadline and cancellation.
            Fcntl.SetNonBlocking(handle, name);
        }
    }

    /// <summary>A stream over a socket, which it disposes in the end.</summary>
    internal static FdStream Over(Socket socket, TransferScope scope, string name, bool waitsInKernel = false)
        => new(socket.SafeHandle, FileAccess.ReadWrite, scope, name, socket, waitsInKernel);

    /// <summary>The descriptor; it stays the stream's.</summary>
    public SafeHandle Handle { get; }

    /// <summary>What errors call it.</summary>
    public string Name { get; }

    internal FileKind Kind { get; }

    /// <summary>
    /// True for a socket that is read as fast as the peer sends: a read is one call, which waits for data itself. The
    /// deadline is then the socket's own, and a cancellation wakes it by ending the receiving direction.
    /// </summary>
    internal bool WaitsInKernel { get; }

    /// <inheritdoc/>
    public override bool CanRead { get; }

    /// <inheritdoc/>
    public override bool CanWrite { get; }

    /// <inheritdoc/>
    public override bool CanSeek => _alwaysReady;

    /// <inheritdoc/>
    public override long Length => RandomAccess.GetLength((SafeFileHandle)Handle);

    /// <inheritdoc/>
    public override long Position
    {
        get => Lseek.Seek(Handle, 0, SeekOrigin.Current, Name);
        set => Lseek.Seek(Handle, value, SeekOrigin.Begin, Name);
    }

    /// <summary>Waits for one of the events, bounded by the scope; a regular file is always ready.</summary>
    internal void WaitFor(PollEvents events, Deadline deadline)
    {
        if (_alwaysReady)
        {
            _scope.CancellationToken.ThrowIfCancellationRequested();
            return;
        }

        if (_scope.TryWait(Handle, events, deadline) == PollEvents.None)
        {
            throw _scope.Expired(events == PollEvents.Readable ? $"data from {Name}" : $"room to write to {Name}{Unread()}", Name);
        }
    }

    /// <summary>True as soon as there is something to read, or a hang-up; false when the moment has passed first.</summary>
    internal bool IsReadableUntil(Deadline moment)
        => _alwaysReady || _scope.TryWait(Handle, PollEvents.Readable, moment) != PollEvents.None;

    /// <summary>
    /// The peer has closed: did its system take what was written last? A peer that closes with our bytes unread, or had closed
    /// before they came, answers with a reset, which may come after the end of what it sent.
    /// </summary>
    internal bool WasTaken()
    {
        var deadline = StartDeadline();
        var look = TimeSpan.Zero;
        while (Kind == FileKind.Socket)
        {
            var returned = _scope.TryWait(Handle, PollEvents.None, new Deadline(look));
            look = s_betweenLooks;
            if (returned.HasFlag(PollEvents.Error))
            {
                return false;
            }

            if (Ioctl.GetUnsentBytes(Handle, Name) == 0)
            {
                return true;
            }

            if (returned != PollEvents.None || deadline.HasPassed)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>
    /// The peer has ended its direction and its system has taken what was written: does it throw that away? One that ends the
    /// connection first and closes the socket after that resets it only then. A local socket has told it already.
    /// </summary>
    internal bool IsResetUntil(Deadline moment)
        => _owner is Socket { AddressFamily: not AddressFamily.Unix } && _scope.TryWait(Handle, PollEvents.None, moment).HasFlag(PollEvents.Error);

    // Tells a peer that takes nothing from one that is slow: what we wrote is still there.
    private string Unread()
        => Kind == FileKind.Pipe ? $" ({Ioctl.GetReadableBytes(Handle, Name):N0} bytes lie unread in the pipe)" : "";

    /// <summary>True if the failure is this stream's own, not that of the other end of a copy.</summary>
    internal bool IsCauseOf(Exception failure) => failure is WireException e && Equals(e.Target, Name);

    /// <summary>A stream over another descriptor, with the same bounds and name.</summary>
    internal FdStream Sibling(SafeHandle handle, FileAccess access) => new(handle, access, _scope, Name);

    internal Deadline StartDeadline() => _scope.StartDeadline();

    /// <summary>The longest time without progress, on this connection or on the whole transfer; infinite if there is none.</summary>
    internal TimeSpan Limit => _scope.Limit;

    /// <summary>Ends both directions of a socket from another thread, which wakes every wait in it.</summary>
    internal void Interrupt()
    {
        try
        {
            SocketCalls.Shutdown(Handle, Name);
        }
        catch (Exception e) when (e is WireException or ObjectDisposedException)
        {
            // The connection has ended by itself.
        }
    }

    /// <summary>Waits for the first byte of a peer, which stays in the socket.</summary>
    /// <returns>False if the peer has closed without one, or the moment has passed.</returns>
    internal bool HasBytesUntil(Deadline moment)
    {
        if (!IsReadableUntil(moment))
        {
            return false;
        }

        Span<byte> first = stackalloc byte[1];
        return SocketCalls.Receive(Handle, first, default, SocketCalls.DontWait | SocketCalls.LookOnly) > 0;
    }

    internal void ThrowIfCancelled() => _scope.CancellationToken.ThrowIfCancellationRequested();

    /// <summary>Reads what there is, at least one byte unless the stream has ended.</summary>
    public override int Read(Span<byte> buffer)
    {
        if (buffer.IsEmpty)
        {
            return 0;
        }

        if (WaitsInKernel)
        {
            return Receive(buffer, default);
        }

        ThrowIfCancelled();
        var deadline = StartDeadline();
        while (true)
        {
            WaitFor(PollEvents.Readable, deadline);
            nint count = FdIo.Read(Handle, buffer);
            if (count >= 0)
            {
                return (int)count;
            }

            if (NativeError.Last is not (NativeError.EAGAIN or NativeError.EINTR))
            {
                throw NativeError.From("read", Name, NativeError.Last);
            }
        }
    }

    /// <summary>Reads from a socket that <see cref="WaitsInKernel"/> into one buffer and, with what is left, into another.</summary>
    /// <returns>Bytes in both together, at least one unless the stream has ended.</returns>
    internal int Receive(Span<byte> first, Span<byte> second)
    {
        while (true)
        {
            ThrowIfCancelled();
            nint count = ReceiveSoon(first, second);
            if (count > 0)
            {
                return (int)count;
            }

            int error = NativeError.Last;
            // The cancellation looks like an end of the stream.
            ThrowIfCancelled();
            if (count == 0)
            {
                return 0;
            }

            if (error != NativeError.EINTR)
            {
                throw error == NativeError.EAGAIN ? _scope.Expired($"data from {Name}", Name) : NativeError.From("recvmsg", Name, error);
            }
        }
    }

    // A peer that is sending has more within microseconds. To look again, after whoever else has work on this processor,
    // costs less than to be put to sleep and woken.
    private nint ReceiveSoon(Span<byte> first, Span<byte> second)
    {
        for (int i = 0; i < Looks; i++)
        {
            nint count = SocketCalls.Receive(Handle, first, second, SocketCalls.DontWait);
            if (count >= 0 || NativeError.Last != NativeError.EAGAIN)
            {
                return count;
            }

            Thread.Yield();
        }

        return SocketCalls.Receive(Handle, first, second, flags: 0);
    }

    /// <summary>Writes everything. The deadline is for each wait, not for the whole.</summary>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        var deadline = StartDeadline();
        while (!buffer.IsEmpty)
        {
            ThrowIfCancelled();
            nint count = WaitsInKernel ? SocketCalls.SendWithoutWaiting(Handle, buffer) : FdIo.Write(Handle, buffer);
            if (count >= 0)
            {
                buffer = buffer[(int)count..];
                deadline = StartDeadline();
            }
            else if (NativeError.Last == NativeError.EAGAIN)
            {
                WaitFor(PollEvents.Writable, deadline);
            }
            else if (NativeError.Last != NativeError.EINTR)
            {
                throw NativeError.From("write", Name, NativeError.Last);
            }
        }
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => Lseek.Seek(Handle, offset, origin, Name);

    /// <inheritdoc/>
    public override void SetLength(long value) => RandomAccess.SetLength((SafeFileHandle)Handle, value);

    /// <summary>Nothing is buffered here.</summary>
    public override void Flush()
    {
    }

    /// <summary>Ends the sending direction of a socket, so that the peer sees the end; other kinds do that by closing.</summary>
    internal void EndWriting()
    {
        if (Kind == FileKind.Socket)
        {
            SocketCalls.ShutdownWrite(Handle, Name);
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _wake.Dispose();
            // The socket, if there is one, closes its handle itself: a socket handle that is disposed alone resets the
            // connection, and what was sent last is lost.
            (_owner ?? Handle).Dispose();
        }

        base.Dispose(disposing);
    }
}
