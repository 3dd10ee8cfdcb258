using System.Security;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests;

/// <summary>
/// Directories of certificates as certtool makes them, with a real QEMU's verdict beside ours: what a QEMU takes from a QEMU is taken
/// here, or refused by the name of what this platform cannot do.
/// </summary>
public sealed class TlsCertificateTests : IDisposable
{
    private const string Qemu = "qemu-system-x86_64-newer";

    private readonly TestFolder _folder = new();
    private readonly CertificateLab _lab;

    public TlsCertificateTests() => _lab = new CertificateLab(_folder);

    public void Dispose() => _folder.Dispose();

    // Name of the row; kind of the server's key and of the client's; what is done to the directories; what we say.
    public static TheoryData<string, string, string, bool> Certificates { get; } = new()
    {
        { "RSA keys", "rsa", "rsa", true },
        { "EC keys that begin with a zero, as certtool writes every second one", "ecdsa33", "ecdsa33", true },
        { "a chain in the certificate files", "rsa+chain", "rsa+chain", true },
        { "a client with an Ed25519 key", "rsa", "ed25519", true },
        { "a client with an RSA-PSS key", "rsa", "rsa-pss", true },
        { "a client of another authority", "rsa", "rsa+foreign", false },
        { "a client that the list revokes", "rsa", "rsa+revoked", false },
        { "a revocation list of which the client is not part", "rsa", "rsa+crl", true },
        { "a revocation list that has run out", "rsa", "rsa+oldcrl", true },
        { "a client that a list revokes which has run out", "rsa", "rsa+oldrevoked", false },
    };

    [Theory]
    [MemberData(nameof(Certificates))]
    public void What_QEMU_says_of_a_client_is_said_here(string row, string server, string client, bool accepted)
    {
        var (listening, connecting) = _lab.Make(server, client);
        Assert.True(accepted == QemuAcceptsQemu(listening, connecting), $"QEMU's own verdict on {row} is another.");
        var failure = Record.Exception(() => ReceiveFromQemu(new TransportSecurity(listening), connecting));
        Assert.True(accepted == failure is null, $"{row}: {failure}");
        Assert.True(accepted || failure is WireException { Reason: WireError.TlsFailed }, failure?.ToString());
    }

    [Theory]
    [InlineData("ed25519", "Ed25519")]
    [InlineData("rsa-pss", "RSA-PSS")]
    public void A_key_that_only_QEMU_can_use_is_named(string kind, string name)
    {
        var (listening, connecting) = _lab.Make(kind, "rsa");
        Assert.True(QemuAcceptsQemu(listening, connecting));
        var failure = Assert.Throws<WireException>(() => TlsFiles.Load(new TransportSecurity(listening), isServer: true));
        Assert.Contains($"is of the kind {name}", failure.Message);
        Assert.Contains("RSA or an EC key", failure.RecommendedAction);
    }

    [Fact]
    public void An_encrypted_key_is_taken_with_its_passphrase_and_named_without()
    {
        var (listening, connecting) = _lab.Make("rsa+encrypted", "rsa");
        Assert.True(QemuAcceptsQemu(listening, connecting, ["-object", "secret,id=s,data=" + CertificateLab.Passphrase], ",passwordid=s"));
        var named = Assert.Throws<WireException>(() => TlsFiles.Load(new TransportSecurity(listening), isServer: true));
        Assert.Contains("is encrypted", named.Message);
        using var right = Secret(CertificateLab.Passphrase);
        ReceiveFromQemu(new TransportSecurity(listening, TlsPassphrase: right), connecting);
        using var wrong = Secret("wrong");
        Assert.Contains("with this passphrase",
            Assert.Throws<WireException>(() => TlsFiles.Load(new TransportSecurity(listening, TlsPassphrase: wrong), isServer: true)).Message);
    }

    [Theory]
    [InlineData(null, false)]
    [InlineData("vm.example", true)]
    [InlineData("other.example", false)]
    public void The_name_that_a_server_s_certificate_has_to_carry_can_be_said(string? name, bool accepted)
    {
        var (listening, connecting) = _lab.Make("rsa+named", "rsa");
        string uri = $"tcp:127.0.0.1:{FreePort()}";
        using var target = Start("dst", listening, "server", ["-incoming", "defer"]);
        target.Command("migrate-incoming", new JsonObject { ["uri"] = uri });
        using var scope = new TransferScope(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);
        var failure = Record.Exception(() =>
            Transport.Connect(Endpoint.Parse(uri), new TransportSecurity(connecting, TlsHostName: name), scope).Dispose());
        Assert.True(accepted == failure is null, failure?.ToString());
        Assert.True(accepted || failure!.Message.Contains("another host name", StringComparison.Ordinal), failure?.ToString());
    }

    [Fact]
    public void Pre_shared_keys_are_named_as_not_supported()
    {
        string folder = Directory.CreateDirectory(_folder.File("psk")).FullName;
        File.WriteAllText(Path.Combine(folder, "keys.psk"), "qemu:00112233445566778899aabbccddeeff\n");
        var failure = Assert.Throws<WireException>(() => TlsFiles.Load(new TransportSecurity(folder), isServer: true));
        Assert.Contains("pre-shared keys", failure.Message);
        Assert.Contains("tls-creds-x509", failure.RecommendedAction);
    }

    private bool QemuAcceptsQemu(string listening, string connecting, string[]? more = null, string credentials = "")
    {
        string uri = $"tcp:127.0.0.1:{FreePort()}";
        using var target = Start("dst", listening, "server", [.. more ?? [], "-incoming", "defer"], credentials);
        target.Command("migrate-incoming", new JsonObject { ["uri"] = uri });
        using var source = Start("src", connecting, "client", []);
        source.Migrate(uri);
        source.WaitUntil(() => source.MigrationStatus is "completed" or "failed", "the migration ends");

        // In TLS 1.3 a source may have sent all before it hears that it was refused; the target's word counts. One that refuses
        // listens on, and says nothing more.
        var clock = System.Diagnostics.Stopwatch.StartNew();
        string status = "";
        while (status != "completed" && clock.Elapsed < TimeSpan.FromSeconds(3))
        {
            status = target.MigrationStatus;
        }

        return status == "completed";
    }

    // The source has done its handshake when its stream begins.
    private void ReceiveFromQemu(TransportSecurity security, string connecting)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(5), TestContext.Current.CancellationToken);
        using var listener = Transport.Listen(Endpoint.Parse("tcp:127.0.0.1:0"), security, scope);
        using var source = Start("here", connecting, "client", []);
        source.Migrate(listener.Endpoint.ToString());
        using var connection = listener.Accept("a source");
        byte[] magic = new byte[4];
        connection.ReadExactly(magic);
        Assert.Equal("QEVM"u8.ToArray(), magic);
    }

    private QemuProcess Start(string name, string folder, string endpoint, string[] more, string credentials = "")
    {
        var qemu = QemuProcess.Start(_folder, name,
            ["-M", "none", "-S", .. more, "-object", $"tls-creds-x509,id=t,dir={folder},endpoint={endpoint},verify-peer=on,sanity-check=off{credentials}"], program: Qemu);
        qemu.SetParameters(new JsonObject { ["tls-creds"] = "t" });
        return qemu;
    }

    private static SecureString Secret(string text)
    {
        var secret = new SecureString();
        foreach (char c in text)
        {
            secret.AppendChar(c);
        }

        return secret;
    }

    private static int FreePort()
    {
        using var probe = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        probe.Start();
        return ((System.Net.IPEndPoint)probe.LocalEndpoint).Port;
    }
}
