using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>The process at the other end of a UNIX socket, as the kernel recorded it at connect or listen.</summary>
/// <param name="Pid">Process id, in this process's pid namespace; 0 if it is not visible there.</param>
/// <param name="Uid">User id.</param>
/// <param name="Gid">Group id.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct PeerCredentials(int Pid, uint Uid, uint Gid);

/// <summary>sendmsg(2), recvmsg(2), getsockopt(SO_PEERCRED) and shutdown(2).</summary>
internal static partial class SocketCalls
{
    internal const int NoSignal = 0x4000;
    internal const int DontWait = 0x40;
    internal const int ControlTruncated = 0x08;
    internal const int CloseOnExecReceived = 0x40000000;
    internal const int SocketLevel = 1;
    internal const int RightsType = 1;
    private const int PeerCredentialsOption = 17;

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

    /// <summary>Ends the sending direction; the peer reads an end of stream. A peer that has gone already is no error.</summary>
    internal static void ShutdownWrite(SafeHandle socket, string what)
    {
        using var fd = new BorrowedFd(socket);
        if (ShutdownNative(fd.Number, 1) < 0 && NativeError.Last != NativeError.ENOTCONN)
        {
            throw NativeError.From("shutdown", what, NativeError.Last);
        }
    }
}
