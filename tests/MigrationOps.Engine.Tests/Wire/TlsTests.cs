using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Wire;

public sealed class TlsTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly TestCertificates _authority = new();
    private readonly CancellationTokenSource _end = new();
    private readonly List<Task> _accepting = [];
    private readonly TransferScope _scope;

    public TlsTests() => _scope = new TransferScope(TimeSpan.FromSeconds(60), _end.Token);

    public void Dispose()
    {
        _end.Cancel();
        _accepting.ForEach(a => a.Join("a listener"));
        _scope.Dispose();
        _end.Dispose();
        _authority.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void Two_sides_with_certificates_of_one_authority_understand_each_other()
    {
        string both = _authority.WriteBoth(_folder["x509"]);
        var (client, server) = Handshake(both, both);
        using var sender = client.Result("the client");
        using var receiver = server.Result("the server");
        byte[] data = new byte[300_000];
        new Random(3).NextBytes(data);
        var sending = Waiting.OnThread(() => sender.Write(data));
        byte[] got = new byte[data.Length];
        receiver.ReadExactly(got);
        sending.Join("the sender");
        Assert.Equal(data, got);
        receiver.WriteByte(6);
        Assert.Equal(6, sender.ReadByte());
    }

    [Fact]
    public void A_server_of_another_authority_is_not_accepted_by_the_client()
    {
        using var other = new TestCertificates("Another authority");
        var (client, server) = Handshake(_authority.WriteBoth(_folder["client"]), other.WriteBoth(_folder["server"]));
        var e = TlsFailure(client);
        Assert.Contains("CN=Test server", e.Message);
        Assert.Contains("not accepted", e.Message);
        TlsFailure(server);
    }

    [Fact]
    public void A_client_of_another_authority_is_not_accepted_by_the_server()
    {
        using var other = new TestCertificates("Another authority");
        string server = _authority.WriteBoth(_folder["server"]);
        string client = other.WriteBoth(_folder["client"]);

        // The client trusts the server's authority for the server, and carries a certificate of its own authority.
        File.AppendAllText(Path.Combine(client, "ca-cert.pem"), "\n" + File.ReadAllText(Path.Combine(server, "ca-cert.pem")));
        var (sender, receiver) = Handshake(client, server);
        Assert.Contains("CN=Test client", TlsFailure(receiver).Message);

        // In TLS 1.3 a client learns of it only when it reads or writes on: as a failure or as an end, never as a byte.
        int read = -1;
        var e = Record.Exception(() =>
        {
            using var stream = sender.Result("the client");
            read = stream.ReadByte();
        });
        Assert.Equal(-1, read);
        Assert.True(e is null or WireException, e?.ToString());
    }

    [Fact]
    public void A_client_without_a_certificate_is_not_accepted()
    {
        using var listener = Listen(_authority.WriteBoth(_folder["server"]));
        var server = Accepting(listener);
        using var socket = new TcpClient("127.0.0.1", ((Endpoint.Tcp)listener.Endpoint).Port);
        using var ssl = new SslStream(socket.GetStream(), false, (_, certificate, _, _) => certificate is not null);
        Record.Exception(() => ssl.AuthenticateAsClient("127.0.0.1"));
        Assert.Contains("the peer sent no certificate", TlsFailure(server).Message);
    }

    [Fact]
    public void A_server_with_another_host_name_is_not_accepted()
    {
        string both = _authority.WriteBoth(_folder["x509"]);
        _authority.Write(both, "server", host: "elsewhere.example");
        var (client, server) = Handshake(both, both);
        Assert.Contains("is for another host name", TlsFailure(client).Message);

        // A server's handshake may be over by then; it hears of the refusal, or of the end, when it reads.
        int read = -1;
        var e = Record.Exception(() =>
        {
            using var stream = server.Result("the server");
            read = stream.ReadByte();
        });
        Assert.Equal(-1, read);
        Assert.True(e is null or WireException, e?.ToString());
    }

    [Theory]
    [InlineData("server", -60, -30)]
    [InlineData("server", 10, 30)]
    [InlineData("client", -60, -30)]
    public void A_certificate_that_is_not_valid_today_is_found_before_anything_is_opened(string side, int from, int to)
    {
        string both = _authority.WriteBoth(_folder["x509"]);
        _authority.Write(both, side, fromDays: from, toDays: to);
        var e = Assert.Throws<WireException>(() => TlsFiles.Load(new TransportSecurity(both), side == "server"));
        Assert.Equal(WireError.TlsFailed, e.Reason);
        Assert.Contains($"{side}-cert.pem", e.Message);
        Assert.Contains("is valid from", e.Message);
    }

    [Theory]
    [InlineData("ca-cert.pem")]
    [InlineData("server-cert.pem")]
    [InlineData("server-key.pem")]
    public void A_missing_file_is_named(string name)
    {
        string both = _authority.WriteBoth(_folder["x509"]);
        File.Delete(Path.Combine(both, name));
        var e = Assert.Throws<WireException>(() => Listen(both));
        Assert.Equal(WireError.TlsFailed, e.Reason);
        Assert.Contains(Path.Combine(both, name), e.Message);
    }

    [Theory]
    [InlineData("ca-cert.pem")]
    [InlineData("server-cert.pem")]
    [InlineData("server-key.pem")]
    public void A_file_of_nonsense_is_named(string name)
    {
        string both = _authority.WriteBoth(_folder["x509"]);
        File.WriteAllText(Path.Combine(both, name), "nonsense");
        var e = Assert.Throws<WireException>(() => TlsFiles.Load(new TransportSecurity(both), isServer: true));
        Assert.Equal(WireError.TlsFailed, e.Reason);
        Assert.Contains(name, e.Message);
    }

    [Fact]
    public void A_key_of_another_certificate_is_found_when_the_files_are_loaded()
    {
        string both = _authority.WriteBoth(_folder["x509"]);
        File.Copy(Path.Combine(both, "client-key.pem"), Path.Combine(both, "server-key.pem"), overwrite: true);
        var e = Assert.Throws<WireException>(() => TlsFiles.Load(new TransportSecurity(both), isServer: true));
        Assert.Equal(WireError.TlsFailed, e.Reason);
    }

    [Fact]
    public void A_certificate_that_its_own_authority_did_not_sign_is_found_when_the_files_are_loaded()
    {
        using var other = new TestCertificates("Another authority");
        string both = _authority.WriteBoth(_folder["x509"]);
        other.Write(_folder["other"], "server");
        File.Copy(Path.Combine(_folder["other"], "ca-cert.pem"), Path.Combine(both, "ca-cert.pem"), overwrite: true);
        var e = Assert.Throws<WireException>(() => TlsFiles.Load(new TransportSecurity(both), isServer: true));
        Assert.Contains("is not accepted by", e.Message);
    }

    [Fact]
    public void A_peer_that_speaks_no_tls_is_a_failed_handshake()
    {
        using var listener = Listen(_authority.WriteBoth(_folder["server"]));
        var server = Accepting(listener);
        using var plain = Transport.Connect(listener.Endpoint, TransportSecurity.Default, _scope);
        plain.Write("GET / HTTP/1.0\r\n\r\n"u8);
        TlsFailure(server);
    }

    [Fact]
    public void A_peer_that_leaves_during_the_handshake_is_a_failed_handshake()
    {
        using var listener = Listen(_authority.WriteBoth(_folder["server"]));
        var server = Accepting(listener);
        using (var half = Transport.Connect(listener.Endpoint, TransportSecurity.Default, _scope))
        {
            half.Write([22, 3, 1, 2, 0, 1]);
        }

        TlsFailure(server);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Strangers_do_not_stand_in_the_way_of_the_peer(bool tls)
    {
        var security = tls ? new TransportSecurity(_authority.WriteBoth(_folder["x509"])) : TransportSecurity.Default;
        using var listener = Transport.Listen(Endpoint.Parse("tcp:127.0.0.1:0"), security, _scope);
        var refused = new List<string>();
        listener.TurnedAway = e => refused.Add(e.Message);
        var server = Waiting.OnThread(() => listener.AcceptSpeaking("a client"));
        Transport.Connect(listener.Endpoint, TransportSecurity.Default, _scope).Dispose();
        using var silent = Transport.Connect(listener.Endpoint, TransportSecurity.Default, _scope);
        if (tls)
        {
            using var stray = Transport.Connect(listener.Endpoint, TransportSecurity.Default, _scope);
            stray.Write("GET / HTTP/1.0\r\n\r\n"u8);
            Waiting.Until(() => refused.Count == 1, "the stranger is turned away");
        }

        using var client = Transport.Connect(listener.Endpoint, security, _scope);
        client.WriteByte(7);
        using var connection = server.Result("the server");
        Assert.Equal(7, connection.ReadByte());
    }

    [Fact]
    public void A_handshake_that_trickles_is_bounded_as_a_whole()
    {
        string both = _authority.WriteBoth(_folder["server"]);
        using var scope = new TransferScope(TimeSpan.FromSeconds(1));
        using var listener = Transport.Listen(Endpoint.Parse("tcp:127.0.0.1:0"), new TransportSecurity(both), scope);
        using var slow = Transport.Connect(listener.Endpoint, TransportSecurity.Default, _scope);
        // The head of a record that promises more than will ever come; each byte of it begins a new wait.
        slow.Write([22, 3, 1, 0x3f, 0]);
        using var stop = new CancellationTokenSource();
        var trickling = Waiting.OnThread(() =>
        {
            while (!stop.Token.WaitHandle.WaitOne(100))
            {
                Record.Exception(() => slow.WriteByte(1));
            }
        });
        var e = Assert.Throws<WireException>(() => listener.Protect(listener.AcceptUnprotected("a client", scope, scope)));
        stop.Cancel();
        trickling.Join("the peer");
        Assert.Equal(WireError.TlsFailed, e.Reason);
        Assert.Contains("has not ended within 1 s", e.Message);
    }

    [Fact]
    public void A_server_sends_nothing_after_the_handshake_before_it_has_something_to_say()
    {
        string both = _authority.WriteBoth(_folder["x509"]);
        using var listener = Listen(both);
        var accepting = Accepting(listener);
        using var socket = new TcpClient("127.0.0.1", ((Endpoint.Tcp)listener.Endpoint).Port);
        using var certificate = X509Certificate2.CreateFromPemFile(Path.Combine(both, "client-cert.pem"), Path.Combine(both, "client-key.pem"));
        string expected = File.ReadAllText(Path.Combine(both, "server-cert.pem"));
        using var ssl = new SslStream(socket.GetStream(), false,
            (_, remote, _, _) => remote is X509Certificate2 { RawData: var raw } && raw.AsSpan().SequenceEqual(X509Certificate2.CreateFromPem(expected).RawData));
        ssl.AuthenticateAsClient(new SslClientAuthenticationOptions
        {
            TargetHost = "127.0.0.1",
            ClientCertificateContext = SslStreamCertificateContext.Create(certificate, null, offline: true),
        });
        Assert.Equal(System.Security.Authentication.SslProtocols.Tls13, ssl.SslProtocol);
        using var server = accepting.Result("the server");
        ssl.WriteByte(1);
        Assert.Equal(1, server.ReadByte());
        Assert.Equal(0, socket.Available);

        // What was held back goes out before the first word, which is understood.
        server.WriteByte(2);
        Assert.Equal(2, ssl.ReadByte());
    }

    [Fact]
    public void A_peer_that_is_silent_during_the_handshake_meets_the_deadline()
    {
        using var scope = new TransferScope(TimeSpan.FromMilliseconds(200));
        using var listener = Transport.Listen(Endpoint.Parse("tcp:127.0.0.1:0"),
            new TransportSecurity(_authority.WriteBoth(_folder["server"])), scope);
        using var silent = Transport.Connect(listener.Endpoint, TransportSecurity.Default, scope);
        var e = Assert.Throws<WireException>(() => listener.Accept("a client"));
        Assert.Equal(WireError.Timeout, e.Reason);
    }

    [Fact]
    public void A_connection_that_is_cut_inside_tls_is_a_disconnection_and_no_foreign_exception()
    {
        string both = _authority.WriteBoth(_folder["x509"]);
        using var listener = Listen(both);
        var accepting = Accepting(listener);
        using var relay = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        relay.Connect("127.0.0.1", ((Endpoint.Tcp)listener.Endpoint).Port);
        using var raw = new NetworkStream(relay);
        using var files = TlsFiles.Load(new TransportSecurity(both), isServer: false);
        using var client = files.Authenticate(FdStream.Over(relay, _scope, "relay"), "127.0.0.1");
        using var server = accepting.Result("the server");
        client.WriteByte(1);
        Assert.Equal(1, server.ReadByte());
        raw.Write([0x17, 3, 3, 0, 40, 1, 2, 3]);
        relay.Shutdown(SocketShutdown.Send);
        var e = Assert.IsAssignableFrom<WireException>(Record.Exception(() => server.ReadByte()));
        Assert.Contains(e.Reason, new[] { WireError.TlsFailed, WireError.Disconnected });
    }

    [Fact]
    public void Cancellation_and_deadline_reach_through_tls()
    {
        string both = _authority.WriteBoth(_folder["x509"]);
        using var cancel = new CancellationTokenSource();
        using var scope = new TransferScope(TimeSpan.FromMilliseconds(300), cancel.Token);
        using var listener = Listen(both);
        var accepting = Accepting(listener);
        using var client = Transport.Connect(listener.Endpoint, new TransportSecurity(both), scope);
        using var server = accepting.Result("the server");
        Assert.Equal(WireError.Timeout, Assert.Throws<WireException>(() => client.ReadByte()).Reason);
        cancel.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => client.ReadByte());
        Assert.ThrowsAny<OperationCanceledException>(() => client.WriteByte(1));
    }

    private Listener Listen(string directory)
        => Transport.Listen(Endpoint.Parse("tcp:127.0.0.1:0"), new TransportSecurity(directory), _scope);

    private (Task<Stream> Client, Task<Stream> Server) Handshake(string clientDirectory, string serverDirectory)
    {
        var listener = Listen(serverDirectory);
        var server = Accepting(listener, owned: true);
        var client = Waiting.OnThread(
            () => Transport.Connect(listener.Endpoint, new TransportSecurity(clientDirectory), _scope));
        return (client, server);
    }

    // A listener continues after a failed handshake; here the first one is the result.
    private Task<Stream> Accepting(Listener listener, bool owned = false)
    {
        var outcome = new TaskCompletionSource<Stream>();
        listener.TurnedAway = e => outcome.TrySetException(e);
        _accepting.Add(Waiting.OnThread(() =>
        {
            try
            {
                outcome.TrySetResult(listener.Accept("a client"));
            }
            catch (Exception e)
            {
                outcome.TrySetException(e);
            }
            finally
            {
                if (owned)
                {
                    listener.Dispose();
                }
            }
        }));
        return outcome.Task;
    }

    private static WireException TlsFailure(Task<Stream> side)
    {
        var e = Assert.IsType<WireException>(Record.Exception(() => side.Result("a side of the handshake")));
        Assert.Equal(WireError.TlsFailed, e.Reason);
        Assert.Equal("WireTlsFailed", e.ErrorId);
        Assert.Equal(FailureKind.Security, e.Kind);
        Assert.Contains("the TLS handshake failed", e.Message);
        return e;
    }
}
