using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>The process at the other end of a UNIX socket, as the kernel recorded it at connect or listen.</summary>
/// <param name="Pid">Process id, in this process's pid namespace; 0 if it is not visible there.</param>
/// <param name="Uid">User id.</param>
/// <param name="Gid">Group id.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct PeerCredentials(int Pid, uint Uid, uint Gid);

/// <summary>sendmsg(2), recvmsg(2), connect(2), send(2), the socket options that are needed, and shutdown(2).</summary>
internal static partial class SocketCalls
{
    internal const int NoSignal = 0x4000;
    internal const int DontWait = 0x40;
    internal const int LookOnly = 0x02;
    internal const int ControlTruncated = 0x08;
    internal const int CloseOnExecReceived = 0x40000000;
    internal const int SocketLevel = 1;
    internal const int RightsType = 1;
    private const int PeerCredentialsOption = 17;
    private const int ErrorOption = 4;
    private const int ReceiveTimeoutOption = 20;
    private const int ShutReceiving = 0;
    private const int ShutSending = 1;
    private const int ShutBoth = 2;

    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct IoVector
    {
        public byte* Base;
        public nuint Length;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct MessageHeader
    {
        public void* Name;
        public uint NameLength;
        public IoVector* Vectors;
        public nuint VectorCount;
        public byte* Control;
        public nuint ControlLength;
        public int Flags;
    }

    /// <summary>struct cmsghdr; the data follows, and the next header is aligned to its size of a word.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct ControlHeader
    {
        public nuint Length;
        public int Level;
        public int Type;
    }

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    internal static unsafe partial nint SendMessage(int fd, MessageHeader* message, int flags);

    [LibraryImport("libc", EntryPoint = "recvmsg", SetLastError = true)]
    internal static unsafe partial nint ReceiveMessage(int fd, MessageHeader* message, int flags);

    [LibraryImport("libc", EntryPoint = "getsockopt", SetLastError = true)]
    private static unsafe partial int GetOption(int fd, int level, int option, void* value, uint* length);

    [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
    private static unsafe partial int SetOption(int fd, int level, int option, void* value, uint length);

    [LibraryImport("libc", EntryPoint = "connect", SetLastError = true)]
    private static unsafe partial int ConnectNative(int fd, byte* address, uint length);

    [LibraryImport("libc", EntryPoint = "send", SetLastError = true)]
    private static unsafe partial nint SendNative(int fd, byte* buffer, nuint count, int flags);

    [LibraryImport("libc", EntryPoint = "shutdown", SetLastError = true)]
    private static partial int ShutdownNative(int fd, int how);

    internal static unsafe PeerCredentials GetPeerCredentials(SafeHandle socket, string what)
    {
        using var fd = new BorrowedFd(socket);
        PeerCredentials credentials;
        uint length = (uint)sizeof(PeerCredentials);
        NativeError.Check(GetOption(fd.Number, SocketLevel, PeerCredentialsOption, &credentials, &length),
            "getsockopt(SO_PEERCRED)", what);
        return credentials;
    }

    /// <summary>connect(2) with an address in the system's own form.</summary>
    /// <returns>0, or the errno.</returns>
    internal static unsafe int Connect(SafeHandle socket, ReadOnlySpan<byte> address)
    {
        using var fd = new BorrowedFd(socket);
        fixed (byte* p = address)
        {
            return ConnectNative(fd.Number, p, (uint)address.Length) == 0 ? 0 : NativeError.Last;
        }
    }

    /// <summary>The errno with which a connection that was begun has ended; 0 if it stands.</summary>
    internal static unsafe int TakeError(SafeHandle socket, string what)
    {
        using var fd = new BorrowedFd(socket);
        int error;
        uint length = sizeof(int);
        NativeError.Check(GetOption(fd.Number, SocketLevel, ErrorOption, &error, &length), "getsockopt(SO_ERROR)", what);
        return error;
    }

    /// <summary>The longest that a <see cref="Receive"/> waits; EAGAIN afterwards.</summary>
    internal static unsafe void SetReceiveTimeout(SafeHandle socket, TimeSpan timeout, string what)
    {
        using var fd = new BorrowedFd(socket);
        long microseconds = Math.Max(1, (long)timeout.TotalMicroseconds);
        long* time = stackalloc long[] { microseconds / 1_000_000, microseconds % 1_000_000 };
        NativeError.Check(SetOption(fd.Number, SocketLevel, ReceiveTimeoutOption, time, 2 * sizeof(long)), "setsockopt(SO_RCVTIMEO)", what);
    }

    /// <summary>recvmsg(2) into one buffer and then, with what is left, into another; a result below zero is returned, not thrown.</summary>
    internal static unsafe nint Receive(SafeHandle socket, Span<byte> first, Span<byte> second, int flags)
    {
        using var fd = new BorrowedFd(socket);
        fixed (byte* p = first, q = second)
        {
            var vectors = stackalloc IoVector[]
            {
                new() { Base = p, Length = (nuint)first.Length },
                new() { Base = q, Length = (nuint)second.Length },
            };
            var message = new MessageHeader { Vectors = vectors, VectorCount = second.IsEmpty ? 1u : 2u };
            return ReceiveMessage(fd.Number, &message, flags);
        }
    }

    /// <summary>send(2) of what there is room for, without waiting even where the socket would; a result below zero is returned.</summary>
    internal static unsafe nint SendWithoutWaiting(SafeHandle socket, ReadOnlySpan<byte> buffer)
    {
        using var fd = new BorrowedFd(socket);
        fixed (byte* p = buffer)
        {
            return SendNative(fd.Number, p, (nuint)buffer.Length, DontWait | NoSignal);
        }
    }

    /// <summary>Ends the sending direction; the peer reads an end of stream. A peer that has gone already is no error.</summary>
    internal static void ShutdownWrite(SafeHandle socket, string what) => Shutdown(socket, ShutSending, what);

    /// <summary>Ends the receiving direction: whoever waits for data of the socket wakes up and reads an end of stream.</summary>
    internal static void ShutdownRead(SafeHandle socket, string what) => Shutdown(socket, ShutReceiving, what);

    /// <summary>Ends both directions.</summary>
    internal static void Shutdown(SafeHandle socket, string what) => Shutdown(socket, ShutBoth, what);

    private static void Shutdown(SafeHandle socket, int how, string what)
    {
        using var fd = new BorrowedFd(socket);
        if (ShutdownNative(fd.Number, how) < 0 && NativeError.Last != NativeError.ENOTCONN)
        {
            throw NativeError.From("shutdown", what, NativeError.Last);
        }
    }
}
