using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Native;

/// <summary>One UNIX socket of this network namespace, as the kernel's socket diagnosis lists it.</summary>
/// <param name="Inode">The socket's own inode, as in the links of /proc/PID/fd.</param>
/// <param name="Name">The path that it is bound to, or that it was accepted on; null without one. Abstract names begin with '@'.</param>
/// <param name="FileInode">The lower 32 bits of the inode of the socket file; 0 without one.</param>
/// <param name="IsListening">True if it accepts connections.</param>
/// <param name="PeerInode">The socket at the other end; 0 if there is none.</param>
internal readonly record struct UnixSocket(uint Inode, string? Name, uint FileInode, bool IsListening, uint PeerInode);

/// <summary>
/// The kernel's list of UNIX sockets with who is connected to whom (NETLINK_SOCK_DIAG, the source of <c>ss -x</c>), which
/// /proc/net/unix does not have.
/// </summary>
internal static partial class UnixSocketDiag
{
    private const int NetlinkFamily = 16;
    private const int RawCloseOnExec = 3 | 0x80000;
    private const int SocketDiagProtocol = 4;
    private const int ByFamilyMessage = 20;
    private const int DoneMessage = 3;
    private const int ErrorMessage = 2;
    private const int HeaderSize = 16;
    private const byte Established = 1;
    private const byte Listen = 10;

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    private static partial int OpenSocket(int domain, int type, int protocol);

    /// <summary>Lists the listening and the connected sockets; null where the kernel does not answer such questions.</summary>
    internal static List<UnixSocket>? TryList()
    {
        int fd = OpenSocket(NetlinkFamily, RawCloseOnExec, SocketDiagProtocol);
        if (fd < 0)
        {
            return null;
        }

        using var socket = new SafeFileHandle(fd, true);
        Span<byte> request = stackalloc byte[HeaderSize + 24];
        request.Clear();
        MemoryMarshal.Write(request, (uint)request.Length);
        MemoryMarshal.Write(request[4..], (ushort)ByFamilyMessage);
        MemoryMarshal.Write(request[6..], (ushort)0x301);          // NLM_F_REQUEST | NLM_F_DUMP
        request[HeaderSize] = 1;                                    // AF_UNIX
        MemoryMarshal.Write(request[(HeaderSize + 4)..], (1u << Established) | (1u << Listen));
        MemoryMarshal.Write(request[(HeaderSize + 12)..], 0x7u);    // name, file, peer
        return FdIo.Write(socket, request) == request.Length ? ReadAll(socket) : null;
    }

    private static List<UnixSocket>? ReadAll(SafeFileHandle socket)
    {
        var found = new List<UnixSocket>();
        byte[] buffer = new byte[64 * 1024];
        while (true)
        {
            nint count = FdIo.Read(socket, buffer);
            if (count < 0 && NativeError.Last == NativeError.EINTR)
            {
                continue;
            }

            if (count <= 0)
            {
                return null;
            }

            var data = buffer.AsSpan(0, (int)count);
            while (data.Length >= HeaderSize)
            {
                int length = (int)Math.Min(MemoryMarshal.Read<uint>(data), (uint)data.Length);
                int type = MemoryMarshal.Read<ushort>(data[4..]);
                if (type == DoneMessage)
                {
                    return found;
                }

                if (type == ErrorMessage || length < HeaderSize)
                {
                    return null;
                }

                if (type == ByFamilyMessage && length >= HeaderSize + 16)
                {
                    found.Add(Parse(data[HeaderSize..length]));
                }

                data = data[Math.Min((length + 3) & ~3, data.Length)..];
            }
        }
    }

    private static UnixSocket Parse(ReadOnlySpan<byte> message)
    {
        bool isListening = message[2] == Listen;
        uint inode = MemoryMarshal.Read<uint>(message[4..]);
        string? name = null;
        uint file = 0;
        uint peer = 0;
        for (var rest = message[16..]; rest.Length >= 4;)
        {
            int length = MemoryMarshal.Read<ushort>(rest);
            if (length < 4 || length > rest.Length)
            {
                break;
            }

            var value = rest[4..length];
            switch (MemoryMarshal.Read<ushort>(rest[2..]))
            {
                case 0 when value.Length > 0:
                    name = value[0] == 0 ? "@" + Encoding.UTF8.GetString(value[1..].TrimEnd((byte)0)) : Encoding.UTF8.GetString(value.TrimEnd((byte)0));
                    break;
                case 1 when value.Length >= 4:
                    file = MemoryMarshal.Read<uint>(value);
                    break;
                case 2 when value.Length >= 4:
                    peer = MemoryMarshal.Read<uint>(value);
                    break;
            }

            rest = rest[Math.Min((length + 3) & ~3, rest.Length)..];
        }

        return new UnixSocket(inode, name, file, isListening, peer);
    }
}
