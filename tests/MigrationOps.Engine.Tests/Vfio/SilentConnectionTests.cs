using System.Net.Sockets;
using MigrationOps.Engine.Multifd;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vfio;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vfio;

public sealed class SilentConnectionTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_connection_that_has_said_nothing_is_closed_when_the_receipt_fails()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60), ProgressRule.WholeTransfer, TestContext.Current.CancellationToken);
        using var devices = new DeviceStateReceiver(new ReassemblyOptions(), (_, _) => new MemorySink(), scope.CancellationToken);
        using var listener = Transport.Listen(new Endpoint.Unix(_folder["m"]), TransportSecurity.Default, scope);
        var receipt = Task.Factory.StartNew(
            () => Record.Exception(() => MigrationReceiver.Receive(listener, new ReceiveOptions(), devices, null, scope)), TaskCreationOptions.LongRunning);
        using var silent = Connect();
        using var wrong = Connect();
        wrong.Send(new byte[4096]);
        Assert.IsType<StreamException>(await receipt);
        silent.ReceiveTimeout = 20_000;
        Assert.Equal(0, silent.Receive(new byte[1]));
    }

    private Socket Connect()
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(_folder["m"]));
        return socket;
    }
}
