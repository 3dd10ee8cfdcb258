using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Cpr;

/// <summary>A peer that sends exactly the messages of a test, right or wrong ones, and the socket both meet at.</summary>
internal sealed class CprPeer : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly UnixConnection _connection;
    private readonly TransferScope _scope;

    internal CprPeer(double seconds = 10)
    {
        _scope = new TransferScope(TimeSpan.FromSeconds(seconds));
        Listener = CprListener.Listen(Path, _scope);
        _connection = Transport.ConnectUnix(Path, _scope);
    }

    internal CprListener Listener { get; }

    internal string Path => _folder["s"];

    internal void Send(ReadOnlySpan<byte> bytes, params SafeHandle[] descriptors)
        => _connection.Send(bytes, descriptors, _scope.StartDeadline(), "test bytes");

    /// <summary>An element and its descriptor, as QEMU sends them.</summary>
    internal void SendEntry(string name, int id, SafeHandle descriptor)
    {
        byte[] element = CprBytes.Element(name + "\0", id);
        Send(element.AsSpan(..^1));
        Send(" "u8, descriptor);
    }

    internal void End() => _connection.ShutdownWrite();

    internal void Close() => _connection.Dispose();

    internal bool SeesHangup()
    {
        _connection.WaitForHangup(_scope.StartDeadline(), "the receiver to close");
        return true;
    }

    internal CprSet Receive()
    {
        using var receiver = Listener.Accept(CprListener.DefaultUsers);
        return receiver.Receive();
    }

    /// <summary>Memory with a name that no other test uses.</summary>
    internal static SafeFileHandle Memory(out string unique, long size = 4096)
    {
        unique = $"mo-{Guid.NewGuid():n}";
        return MemFd.Create(unique, size);
    }

    /// <summary>How many descriptors of this process lead to a thing of that name.</summary>
    internal static int CountOpen(string unique) => Directory.GetFiles("/proc/self/fd")
        .Count(path => new FileInfo(path).LinkTarget?.Contains(unique, StringComparison.Ordinal) == true);

    public void Dispose()
    {
        _connection.Dispose();
        Listener.Dispose();
        _scope.Dispose();
        _folder.Dispose();
    }
}
