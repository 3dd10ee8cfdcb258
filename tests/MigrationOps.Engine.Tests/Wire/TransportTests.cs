using System.Diagnostics;
using System.Net.Sockets;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Wire;

public class TransportTests
{
    private static readonly TransportSecurity Local = TransportSecurity.Default;

    public enum Obstacle
    {
        NoSuchPath,
        NoSuchDirectory,
        BelowAFile,
        RegularFile,
        Directory,
        DanglingLink,
        NoListener,
        TooLong,
    }

    [Fact]
    public void A_name_is_tried_at_all_of_its_addresses()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var listener = Transport.Listen(Endpoint.Parse("tcp:127.0.0.1:0"), Local, scope);

        // localhost has ::1 as its first address on many machines, and there is no listener.
        using var connected = Transport.Connect(((Endpoint.Tcp)listener.Endpoint) with { Host = "localhost" }, Local, scope);
        using var accepted = listener.Accept("the test");
        connected.WriteByte(42);
        Assert.Equal(42, accepted.ReadByte());
    }

    [Theory]
    [InlineData(Obstacle.NoSuchPath, WireError.NotFound, "there is no such socket")]
    [InlineData(Obstacle.NoSuchDirectory, WireError.NotFound, "there is no such socket")]
    [InlineData(Obstacle.BelowAFile, WireError.NotFound, "there is no such socket")]
    [InlineData(Obstacle.RegularFile, WireError.NotASocket, "it is not a socket")]
    [InlineData(Obstacle.Directory, WireError.NotASocket, "it is not a socket")]
    [InlineData(Obstacle.DanglingLink, WireError.NotFound, "there is no such socket")]
    [InlineData(Obstacle.NoListener, WireError.ConnectFailed, "refused")]
    [InlineData(Obstacle.TooLong, WireError.InvalidEndpoint, "107 bytes")]
    public void What_stands_in_the_way_of_a_socket_has_its_own_name(Obstacle obstacle, WireError reason, string text)
    {
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        string path = folder["s"];
        switch (obstacle)
        {
            case Obstacle.NoSuchDirectory: path = folder["absent/s"]; break;
            case Obstacle.BelowAFile:
                File.WriteAllText(path, "");
                path = folder["s/s"];
                break;
            case Obstacle.RegularFile: File.WriteAllText(path, ""); break;
            case Obstacle.Directory: Directory.CreateDirectory(path); break;
            case Obstacle.DanglingLink: File.CreateSymbolicLink(path, folder["absent"]); break;
            case Obstacle.NoListener: LeaveSocketFile(path); break;
            case Obstacle.TooLong: path = folder[new string('x', 120)]; break;
        }

        var e = Assert.Throws<WireException>(() => Transport.ConnectUnix(path, scope));
        Assert.Equal(reason, e.Reason);
        Assert.Contains(text, e.Message);
        Assert.Contains(path, e.Message);
        Assert.NotEmpty(e.RecommendedAction);
        if (obstacle != Obstacle.TooLong)
        {
            Assert.Equal(path, e.Target);
        }
    }

    [Fact]
    public void A_socket_that_this_user_may_not_use_is_a_matter_of_permission()
    {
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var listener = Transport.Listen(new Endpoint.Unix(folder["s"]), Local, scope);
        File.SetUnixFileMode(folder["s"], UnixFileMode.None);
        File.SetUnixFileMode(folder.Path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute
            | UnixFileMode.OtherExecute | UnixFileMode.OtherRead);
        var e = Assert.IsType<WireException>(Libc.RecordAsNobody(() => Transport.ConnectUnix(folder["s"], scope)));
        Assert.Equal(WireError.AccessDenied, e.Reason);
        Assert.Equal(FailureKind.Permission, e.Kind);
    }

    [Fact]
    public void A_socket_in_a_folder_that_this_user_may_not_enter_is_a_matter_of_permission()
    {
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        Directory.CreateDirectory(folder["closed"]);
        using var listener = Transport.Listen(new Endpoint.Unix(folder["closed/s"]), Local, scope);
        File.SetUnixFileMode(folder["closed"], UnixFileMode.None);
        try
        {
            var e = Assert.IsType<WireException>(Libc.RecordAsNobody(() => Transport.ConnectUnix(folder["closed/s"], scope)));
            Assert.Equal(WireError.AccessDenied, e.Reason);
        }
        finally
        {
            File.SetUnixFileMode(folder["closed"], UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }

    [Fact]
    public void A_listener_whose_queue_is_full_is_an_error_and_not_a_hang()
    {
        using var folder = new TestFolder();
        using var scope = new TransferScope(TimeSpan.FromMilliseconds(500));
        using var full = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        full.Bind(new UnixDomainSocketEndPoint(folder["s"]));
        full.Listen(0);
        var connections = new List<UnixConnection>();
        var clock = Stopwatch.StartNew();
        try
        {
            var e = Assert.Throws<WireException>(() =>
            {
                for (int i = 0; i < 8; i++)
                {
                    connections.Add(Transport.ConnectUnix(folder["s"], scope));
                }
            });
            Assert.Contains(e.Reason, new[] { WireError.ConnectFailed, WireError.Timeout });
            Assert.InRange(clock.Elapsed.TotalSeconds, 0, 40);
        }
        finally
        {
            connections.ForEach(connection => connection.Dispose());
        }
    }

    [Fact]
    public void No_listener_at_a_tcp_port_is_a_failed_connection()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        Endpoint unused;
        using (var listener = Transport.Listen(Endpoint.Parse("tcp:127.0.0.1:0"), Local, scope))
        {
            unused = listener.Endpoint;
        }

        var e = Assert.Throws<WireException>(() => Transport.Connect(unused, Local, scope));
        Assert.Equal(WireError.ConnectFailed, e.Reason);
        Assert.Contains(unused.ToString(), e.Message);
        Assert.Equal(FailureKind.Connection, e.Kind);
    }

    [Fact]
    public void A_host_that_does_not_exist_is_named()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(30));
        var e = Assert.Throws<WireException>(() => Transport.Connect(
            Endpoint.Parse("tcp:no-such-host.invalid:1"), new TransportSecurity(AllowPlaintext: true), scope));
        Assert.Equal(WireError.ConnectFailed, e.Reason);
        Assert.Contains("no-such-host.invalid", e.Message);
    }

    [Fact]
    public void A_file_is_no_address_to_connect_to()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var e = Assert.Throws<WireException>(() => Transport.Connect(Endpoint.Parse("file:/tmp/x"), Local, scope));
        Assert.Equal(WireError.UnsupportedEndpoint, e.Reason);
        Assert.Equal(WireError.UnsupportedEndpoint,
            Assert.Throws<WireException>(() => Transport.Listen(Endpoint.Parse("fd:0"), Local, scope)).Reason);
    }

    [Theory]
    [InlineData("tcp:192.0.2.1:4444", false)]
    [InlineData("tcp:0.0.0.0:0", true)]
    [InlineData("tcp::0", true)]
    [InlineData("tcp:[::]:0", true)]
    public void Plaintext_beyond_this_machine_is_refused_before_anything_is_opened(string uri, bool listen)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var e = Assert.Throws<WireException>(() =>
        {
            using IDisposable opened = listen
                ? Transport.Listen(Endpoint.Parse(uri), Local, scope)
                : Transport.Connect(Endpoint.Parse(uri), Local, scope);
        });
        Assert.Equal(WireError.PlaintextRefused, e.Reason);
        Assert.Equal(FailureKind.Security, e.Kind);
        Assert.Contains("allow plain text", e.RecommendedAction);
        Assert.Contains("credentials", e.RecommendedAction);
    }

    [Fact]
    public void Plaintext_that_was_allowed_listens_on_every_address()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var listener = Transport.Listen(Endpoint.Parse("tcp::0"), new TransportSecurity(AllowPlaintext: true), scope);
        var tcp = Assert.IsType<Endpoint.Tcp>(listener.Endpoint);
        Assert.Equal("0.0.0.0", tcp.Host);
        using var client = Transport.Connect(tcp with { Host = "127.0.0.1" }, Local, scope);
        using var server = listener.Accept("a client");
        client.WriteByte(7);
        Assert.Equal(7, server.ReadByte());
    }

    [Theory]
    [InlineData("tcp:127.0.0.1:0")]
    [InlineData("tcp:localhost:0")]
    [InlineData("tcp:[::1]:0")]
    [InlineData("unix:@mo-abstract-test")]
    public void A_connection_over_each_kind_of_socket_carries_bytes_both_ways(string uri)
    {
        Assert.SkipWhen(uri.Contains("::1") && !Socket.OSSupportsIPv6, "This machine has no IPv6; enable it to run this.");
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var listener = Transport.Listen(Endpoint.Parse(uri), Local, scope);
        using var client = Transport.Connect(listener.Endpoint, Local, scope);
        using var server = listener.Accept("a client");
        client.Write("ping"u8);
        byte[] got = new byte[4];
        server.ReadExactly(got);
        Assert.Equal("ping"u8, got);
        server.Write("pong"u8);
        client.ReadExactly(got);
        Assert.Equal("pong"u8, got);
    }

    [Fact]
    public void What_was_sent_last_arrives_although_the_sender_closes_at_once()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var listener = Transport.Listen(Endpoint.Parse("tcp:127.0.0.1:0"), Local, scope);
        byte[] data = States.RandomBytes(200_000);
        for (int i = 0; i < 20; i++)
        {
            using (var client = Transport.Connect(listener.Endpoint, Local, scope))
            {
                client.Write(data);
            }

            using var server = listener.Accept("a client");
            byte[] got = new byte[data.Length];
            server.ReadExactly(got);
            Assert.Equal(data, got);
            Assert.Equal(-1, server.ReadByte());
        }
    }

    [Fact]
    public void A_descriptor_of_this_process_is_duplicated_and_the_callers_stays_open()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        {
            using (var stream = Transport.Connect(new Endpoint.Fd((int)write.DangerousGetHandle()), Local, scope))
            {
                Assert.False(stream.CanRead);
                stream.Write("to the pipe"u8);
            }

            Assert.Equal(11, FdIo.Read(read, new byte[20]));
            Assert.Equal(1, FdIo.Write(write, "x"u8));
            Assert.True(Fcntl.IsBlocking(write, "the caller's end"), "The caller's descriptor waits as before.");
        }
    }

    [Fact]
    public void A_descriptor_number_that_is_not_open_is_an_error_that_names_it()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        var e = Assert.Throws<WireException>(() => Transport.OpenDescriptor(new Endpoint.Fd(999_999), scope));
        Assert.Contains("fd:999999", e.Message);
    }

    private static void LeaveSocketFile(string path)
    {
        // The file of a socket stays when its process ends; renaming it first keeps the runtime from removing it.
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint(path + ".first"));
        File.Move(path + ".first", path);
    }
}
