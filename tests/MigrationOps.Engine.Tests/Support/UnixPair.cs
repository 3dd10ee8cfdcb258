using System.Net.Sockets;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>Two connected UNIX sockets in one scope.</summary>
internal sealed class UnixPair : IDisposable
{
    internal UnixPair(TimeSpan? timeout = null, CancellationToken cancellationToken = default)
    {
        Scope = new TransferScope(timeout ?? TimeSpan.FromSeconds(60), cancellationToken);
        var (a, b) = Libc.SocketPair();
        SocketA = new Socket(new SafeSocketHandle(a, true));
        SocketB = new Socket(new SafeSocketHandle(b, true));
        A = new UnixConnection(SocketA, Scope, "peer-b");
        B = new UnixConnection(SocketB, Scope, "peer-a");
    }

    internal TransferScope Scope { get; }

    internal Socket SocketA { get; }

    internal Socket SocketB { get; }

    internal UnixConnection A { get; }

    internal UnixConnection B { get; }

    internal Deadline Deadline => Scope.StartDeadline();

    public void Dispose()
    {
        A.Dispose();
        B.Dispose();
        Scope.Dispose();
    }
}
