using System.Net.Sockets;

namespace MigrationOps.Interop.Tests.Cpr;

/// <summary>Listens where a source sends its main channel, and keeps what comes in a file.</summary>
internal sealed class MainChannelFile : IDisposable
{
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly Task _copying;

    internal MainChannelFile(string socketPath, string filePath)
    {
        _listener.Bind(new UnixDomainSocketEndPoint(socketPath));
        _listener.Listen(1);
        _copying = Task.Run(() =>
        {
            using var stream = new NetworkStream(_listener.Accept(), ownsSocket: true);
            using var file = File.Create(filePath);
            stream.CopyTo(file);
        });
    }

    /// <summary>Waits until the source has closed the channel.</summary>
    public void Dispose()
    {
        Assert.True(_copying.Wait(TimeSpan.FromSeconds(30)), "The main channel did not end.");
        _listener.Dispose();
    }
}
