using System.Net.Sockets;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Wire;

public class ListenerTests
{
    [Fact]
    public void A_connection_that_was_silent_while_another_spoke_is_accepted_when_it_speaks()
    {
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var listener = Transport.Listen(new Endpoint.Unix(folder["s"]), TransportSecurity.Default, scope);
        using var silent = Transport.Connect(listener.Endpoint, TransportSecurity.Default, scope);
        using var speaking = Transport.Connect(listener.Endpoint, TransportSecurity.Default, scope);
        speaking.WriteByte(1);
        using var first = listener.AcceptSpeaking("a channel");
        Assert.Equal(1, first.ReadByte());
        silent.WriteByte(2);
        using var second = listener.AcceptSpeaking("the main channel");
        Assert.Equal(2, second.ReadByte());
    }

    [Fact]
    public void A_listener_removes_its_socket_file_when_it_ends_and_not_before()
    {
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using (var listener = Transport.Listen(new Endpoint.Unix(folder["s"]), TransportSecurity.Default, scope))
        {
            for (int i = 0; i < 3; i++)
            {
                using var client = Transport.ConnectUnix(folder["s"], scope);
                using var server = listener.AcceptUnix("a client");
                Assert.Equal(["s"], folder.Entries);
            }
        }

        Assert.Empty(folder.Entries);
    }

    [Fact]
    public void A_listener_whose_folder_has_gone_ends_all_the_same()
    {
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        Directory.CreateDirectory(folder["d"]);
        var listener = Transport.Listen(new Endpoint.Unix(folder["d/s"]), TransportSecurity.Default, scope);
        Directory.Delete(folder["d"], recursive: true);
        listener.Dispose();
        Assert.Empty(folder.Entries);
    }

    [Theory]
    [InlineData("unix")]
    [InlineData("tcp")]
    public void An_address_that_is_taken_is_an_error_and_stays_as_it_is(string scheme)
    {
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var endpoint = scheme == "unix" ? new Endpoint.Unix(folder["s"]) : Endpoint.Parse("tcp:127.0.0.1:0");
        using var first = Transport.Listen(endpoint, TransportSecurity.Default, scope);
        var e = Assert.Throws<WireException>(() => Transport.Listen(first.Endpoint, TransportSecurity.Default, scope));
        Assert.Equal(WireError.ListenFailed, e.Reason);
        Assert.Contains(first.Endpoint.ToString(), e.Message);
        Assert.Contains("left behind", e.RecommendedAction);
        using var client = Transport.Connect(first.Endpoint, TransportSecurity.Default, scope);
        using var server = first.Accept("a client");
    }

    [Fact]
    public void A_listener_without_a_peer_fails_at_its_deadline()
    {
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromMilliseconds(100));
        using var listener = Transport.Listen(new Endpoint.Unix(folder["s"]), TransportSecurity.Default, scope);
        var e = Assert.Throws<WireException>(() => listener.Accept("a sender"));
        Assert.Equal(WireError.Timeout, e.Reason);
        Assert.Contains("a sender on unix:", e.Message);
    }

    [Fact]
    public void Cancellation_ends_a_wait_for_a_connection()
    {
        using var folder = new TestFolder();
        using var cancel = new CancellationTokenSource();
        using var scope = new TransferScope(Timeout.InfiniteTimeSpan, cancel.Token);
        using var listener = Transport.Listen(Endpoint.Parse("tcp:127.0.0.1:0"), TransportSecurity.Default, scope);
        var waiter = Waiting.OnThread(() => Record.Exception(() => listener.Accept("a sender")));
        cancel.Cancel();
        Assert.IsAssignableFrom<OperationCanceledException>(waiter.Result("the wait for a connection"));
    }

    [Fact]
    public void A_folder_that_does_not_exist_cannot_be_listened_in()
    {
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var e = Assert.Throws<WireException>(
            () => Transport.Listen(new Endpoint.Unix(folder["absent/s"]), TransportSecurity.Default, scope));
        Assert.Equal(WireError.ListenFailed, e.Reason);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_connection_waits_for_room_in_the_listeners_queue_for_a_while(bool makesRoom)
    {
        using var folder = new TestFolder();
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(folder["s"]));
        listener.Listen(0);
        using var scope = new TransferScope(makesRoom ? TimeSpan.FromSeconds(20) : TimeSpan.FromMilliseconds(200));
        using var first = Transport.ConnectUnix(folder["s"], scope);
        var second = Waiting.OnThread(() => Transport.ConnectUnix(folder["s"], scope));
        if (makesRoom)
        {
            using var accepted = listener.Accept();
            second.Result("the second connection").Dispose();
        }
        else
        {
            var e = Assert.Throws<WireException>(() => second.Result("the second connection"));
            Assert.Equal(WireError.ConnectFailed, e.Reason);
            Assert.Contains($"unix:{folder["s"]}: its queue of connections is full", e.Message);
        }
    }
}
