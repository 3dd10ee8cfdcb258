using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Wire;

/// <summary>
/// A connected UNIX stream socket that carries descriptors (SCM_RIGHTS) in both directions. What arrives is
/// close-on-exec; lost descriptors (MSG_CTRUNC) are an error; a partial send continues without sending descriptors twice.
/// </summary>
internal sealed class UnixConnection : IDisposable
{
    /// <summary>The kernel's limit of descriptors in one message (SCM_MAX_FD).</summary>
    public const int MaxDescriptorsPerMessage = 253;

    private const int HeaderSize = 16;
    private const int ControlCapacity = 4096;

    private readonly Socket _socket;
    private readonly TransferScope _scope;

    /// <summary>Takes over a connected socket.</summary>
    /// <param name="socket">Closed with the connection.</param>
    /// <param name="scope">Deadline and cancellation of every wait.</param>
    /// <param name="name">What errors call the peer.</param>
    public UnixConnection(Socket socket, TransferScope scope, string name)
    {
        ArgumentNullException.ThrowIfNull(socket);
        _socket = socket;
        _scope = scope;
        Name = name;
    }

    /// <summary>What errors call the peer.</summary>
    public string Name { get; }

    /// <summary>The descriptor of the socket; it stays the connection's.</summary>
    public SafeHandle Handle => _socket.SafeHandle;

    /// <summary>Deadline and cancellation of every wait.</summary>
    public TransferScope Scope => _scope;

    /// <summary>Who is at the other end, from SO_PEERCRED.</summary>
    public PeerCredentials GetPeerCredentials() => SocketCalls.GetPeerCredentials(Handle, Name);

    /// <summary>Sends bytes, and descriptors with the first of them.</summary>
    /// <param name="data">At least one byte.</param>
    /// <param name="descriptors">They stay the caller's; the kernel duplicates them into the message.</param>
    /// <param name="deadline">For the whole message.</param>
    /// <param name="what">What the error names.</param>
    public void Send(ReadOnlySpan<byte> data, ReadOnlySpan<SafeHandle> descriptors, Deadline deadline, string what)
    {
        if (data.IsEmpty)
        {
            throw new ArgumentException("Descriptors travel with at least one byte.", nameof(data));
        }

        if (descriptors.Length > MaxDescriptorsPerMessage)
        {
            throw new WireException(WireError.TooManyDescriptors,
                $"{Name}: {what} carries {descriptors.Length} descriptors; the kernel allows {MaxDescriptorsPerMessage}.");
        }

        while (!data.IsEmpty)
        {
            _scope.CancellationToken.ThrowIfCancellationRequested();
            nint sent = SendOnce(data, descriptors);
            if (sent >= 0)
            {
                data = data[(int)sent..];
                descriptors = sent > 0 ? default : descriptors;
            }
            else if (NativeError.Last == NativeError.EAGAIN)
            {
                if (_scope.TryWait(Handle, PollEvents.Writable, deadline) == PollEvents.None)
                {
                    throw _scope.Expired($"room to send {what} to {Name}");
                }
            }
            else if (NativeError.Last != NativeError.EINTR)
            {
                throw NativeError.From("sendmsg", $"{Name}, {what}", NativeError.Last);
            }
        }
    }

    /// <summary>Receives what there is, at least one byte unless the peer has closed.</summary>
    /// <param name="buffer">Where the bytes go.</param>
    /// <param name="received">Where the descriptors go; it owns them.</param>
    /// <param name="deadline">When to give up.</param>
    /// <param name="waitingFor">What the error names.</param>
    /// <returns>The number of bytes; 0 when the peer has closed.</returns>
    /// <exception cref="WireException"><see cref="WireError.DescriptorsLost"/>, <see cref="WireError.Timeout"/> and others.</exception>
    public int Receive(Span<byte> buffer, FdQueue received, Deadline deadline, string waitingFor)
    {
        ArgumentNullException.ThrowIfNull(received);
        while (true)
        {
            _scope.CancellationToken.ThrowIfCancellationRequested();
            nint count = ReceiveOnce(buffer, received, out bool truncated);
            if (truncated)
            {
                received.CloseUnclaimed();
                throw new WireException(WireError.DescriptorsLost,
                    $"{Name}: the kernel dropped descriptors that came with {waitingFor} (MSG_CTRUNC).");
            }

            if (count >= 0)
            {
                return (int)count;
            }

            if (NativeError.Last == NativeError.EAGAIN)
            {
                if (_scope.TryWait(Handle, PollEvents.Readable, deadline) == PollEvents.None)
                {
                    throw _scope.Expired($"{waitingFor} from {Name}");
                }
            }
            else if (NativeError.Last != NativeError.EINTR)
            {
                throw NativeError.From("recvmsg", $"{Name}, {waitingFor}", NativeError.Last);
            }
        }
    }

    /// <summary>Fills the buffer, however the bytes are split.</summary>
    /// <returns>False if the peer closed before the first byte.</returns>
    /// <exception cref="WireException"><see cref="WireError.UnexpectedEnd"/> if it closed after it.</exception>
    public bool TryReceiveExactly(Span<byte> buffer, FdQueue received, Deadline deadline, string waitingFor)
    {
        int filled = 0;
        while (filled < buffer.Length)
        {
            int count = Receive(buffer[filled..], received, deadline, waitingFor);
            if (count == 0)
            {
                return filled == 0 ? false : throw new WireException(WireError.UnexpectedEnd,
                    $"{Name} closed the connection after {filled} of {buffer.Length} bytes of {waitingFor}.");
            }

            filled += count;
        }

        return true;
    }

    /// <summary>Ends the sending direction; the peer reads an end of stream, and can still answer.</summary>
    public void ShutdownWrite() => SocketCalls.ShutdownWrite(Handle, Name);

    /// <summary>Waits until the peer has closed its end or shut both directions down.</summary>
    public void WaitForHangup(Deadline deadline, string waitingFor)
    {
        while (!_scope.Wait(Handle, PollEvents.None, deadline, waitingFor)
            .HasFlag(PollEvents.Hangup))
        {
            if (deadline.HasPassed)
            {
                throw _scope.Expired(waitingFor);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _socket.Dispose();

    private unsafe nint SendOnce(ReadOnlySpan<byte> data, ReadOnlySpan<SafeHandle> descriptors)
    {
        int payload = descriptors.Length * sizeof(int);
        byte* control = stackalloc byte[HeaderSize + Align(payload)];
        var header = (SocketCalls.ControlHeader*)control;
        int* numbers = (int*)(control + HeaderSize);
        int held = 0;
        Span<bool> references = stackalloc bool[descriptors.Length];
        try
        {
            for (; held < descriptors.Length; held++)
            {
                descriptors[held].DangerousAddRef(ref references[held]);
                numbers[held] = (int)descriptors[held].DangerousGetHandle();
            }

            using var fd = new BorrowedFd(Handle);
            fixed (byte* bytes = data)
            {
                var vector = new SocketCalls.IoVector { Base = bytes, Length = (nuint)data.Length };
                var message = new SocketCalls.MessageHeader { Vectors = &vector, VectorCount = 1 };
                if (payload > 0)
                {
                    header->Length = (nuint)(HeaderSize + payload);
                    header->Level = SocketCalls.SocketLevel;
                    header->Type = SocketCalls.RightsType;
                    message.Control = control;
                    message.ControlLength = (nuint)(HeaderSize + Align(payload));
                }

                return SocketCalls.SendMessage(fd.Number, &message, SocketCalls.NoSignal | SocketCalls.DontWait);
            }
        }
        finally
        {
            for (int i = 0; i < held; i++)
            {
                if (references[i])
                {
                    descriptors[i].DangerousRelease();
                }
            }
        }
    }

    // The kernel fills what is read of the control buffer; clearing 4 KiB for every message would cost more than the call.
    [SkipLocalsInit]
    private unsafe nint ReceiveOnce(Span<byte> buffer, FdQueue received, out bool truncated)
    {
        // A long-aligned buffer, as CMSG_FIRSTHDR needs.
        long* words = stackalloc long[ControlCapacity / sizeof(long)];
        byte* control = (byte*)words;
        using var fd = new BorrowedFd(Handle);
        fixed (byte* bytes = buffer)
        {
            var vector = new SocketCalls.IoVector { Base = bytes, Length = (nuint)buffer.Length };
            var message = new SocketCalls.MessageHeader
            {
                Vectors = &vector,
                VectorCount = 1,
                Control = control,
                ControlLength = ControlCapacity,
            };
            nint count = SocketCalls.ReceiveMessage(
                fd.Number, &message, SocketCalls.DontWait | SocketCalls.CloseOnExecReceived);
            truncated = count >= 0 && (message.Flags & SocketCalls.ControlTruncated) != 0;
            int error = NativeError.Last;
            if (count >= 0)
            {
                TakeDescriptors(new ReadOnlySpan<byte>(control, (int)message.ControlLength), received);
            }

            Marshal.SetLastPInvokeError(error);
            return count;
        }
    }

    // Walks every control message: a sender may spread its descriptors over several.
    private static unsafe void TakeDescriptors(ReadOnlySpan<byte> control, FdQueue received)
    {
        while (control.Length >= HeaderSize)
        {
            var header = MemoryMarshal.Read<SocketCalls.ControlHeader>(control);
            int length = (int)Math.Min(header.Length, (nuint)control.Length);
            if (length < HeaderSize)
            {
                return;
            }

            if (header.Level == SocketCalls.SocketLevel && header.Type == SocketCalls.RightsType)
            {
                foreach (int number in MemoryMarshal.Cast<byte, int>(control[HeaderSize..length]))
                {
                    received.Enqueue(new SafeFileHandle(number, true));
                }
            }

            control = control[Math.Min(Align(length), control.Length)..];
        }
    }

    private static int Align(int length) => (length + sizeof(long) - 1) & ~(sizeof(long) - 1);
}
