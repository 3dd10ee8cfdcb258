using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests;

/// <summary>Makes directories of certificates with certtool, the tool that QEMU's documentation uses.</summary>
internal sealed class CertificateLab(TestFolder folder)
{
    internal const string Passphrase = "geheim";

    private readonly string _certtool = Peers.Require("certtool");
    private int _templates;

    /// <summary>A directory for the listening side and one for the connecting side.</summary>
    /// <param name="server">Kind of the key, and what is special about this side: <c>rsa+chain</c>.</param>
    /// <param name="client">The same for the client; revocation lists go to the server.</param>
    internal (string Server, string Client) Make(string server, string client)
    {
        string listening = Directory.CreateDirectory(folder.File("listening")).FullName;
        string connecting = Directory.CreateDirectory(folder.File("connecting")).FullName;
        Authority("root", null);
        foreach (string directory in new[] { listening, connecting })
        {
            File.Copy(folder.File("root-cert"), Path.Combine(directory, "ca-cert.pem"), overwrite: true);
        }

        Side(listening, "server", server);
        Side(connecting, "client", client);
        string special = client.Split('+').ElementAtOrDefault(1) ?? "";
        if (special is "revoked" or "oldrevoked" or "crl" or "oldcrl")
        {
            Authority("root-other", null);
            Leaf(folder.File("unused"), "client", "rsa", "root", "localhost");
            string revoked = special.EndsWith("revoked", StringComparison.Ordinal) ? Path.Combine(connecting, "client-cert.pem") : folder.File("unused-cert");
            Run("--generate-crl", "--load-ca-privkey", folder.File("root-key"), "--load-ca-certificate", folder.File("root-cert"), "--load-certificate", revoked,
                "--template", Template("crl_number = 1", special.StartsWith("old", StringComparison.Ordinal)
                    ? "crl_this_update_date = \"2020-01-01 00:00:00\"\ncrl_next_update_date = \"2020-02-01 00:00:00\"" : "crl_next_update = 30"),
                "--outfile", Path.Combine(listening, "ca-crl.pem"));
        }

        return (listening, connecting);
    }

    private void Side(string directory, string side, string kind)
    {
        string[] parts = kind.Split('+');
        string special = parts.ElementAtOrDefault(1) ?? "";
        string signer = special switch
        {
            "chain" => Authority("between", "root"),
            "foreign" => Authority("foreign", null),
            _ => "root",
        };
        Leaf(folder.File(side), side, parts[0], signer, special == "named" ? "vm.example" : "localhost");
        string certificate = File.ReadAllText(folder.File(side + "-cert"));
        File.WriteAllText(Path.Combine(directory, side + "-cert.pem"), special == "chain" ? certificate + File.ReadAllText(folder.File("between-cert")) : certificate);
        string key = Path.Combine(directory, side + "-key.pem");
        if (special == "encrypted")
        {
            Run("--to-p8", "--load-privkey", folder.File(side + "-key"), "--password", Passphrase, "--outfile", key);
        }
        else
        {
            File.Copy(folder.File(side + "-key"), key, overwrite: true);
        }
    }

    private string Authority(string name, string? signer)
    {
        if (!File.Exists(folder.File(name + "-cert")))
        {
            Run("--generate-privkey", "--key-type=rsa", "--bits", "2048", "--outfile", folder.File(name + "-key"));
            string template = Template($"cn = {name}", "ca", "cert_signing_key", "crl_signing_key", "expiration_days = 300");
            string[] how = signer is null ? ["--generate-self-signed"]
                : ["--generate-certificate", "--load-ca-certificate", folder.File(signer + "-cert"), "--load-ca-privkey", folder.File(signer + "-key")];
            Run([.. how, "--load-privkey", folder.File(name + "-key"), "--template", template, "--outfile", folder.File(name + "-cert")]);
        }

        return name;
    }

    private void Leaf(string path, string side, string kind, string signer, string host)
    {
        do
        {
            Run("--generate-privkey", "--key-type=" + (kind == "ecdsa33" ? "ecdsa" : kind), kind == "ecdsa33" ? "--curve=secp256r1" : "--sec-param=medium", "--outfile", path + "-key");
        }
        while (kind == "ecdsa33" && !BeginsWithZero(File.ReadAllText(path + "-key")));
        string names = host == "localhost" ? "dns_name = localhost\nip_address = 127.0.0.1" : $"dns_name = {host}";
        Run("--generate-certificate", "--load-privkey", path + "-key", "--load-ca-certificate", folder.File(signer + "-cert"),
            "--load-ca-privkey", folder.File(signer + "-key"), "--template",
            Template($"cn = {side}", names, $"tls_www_{side}", "signing_key", "expiration_days = 200"), "--outfile", path + "-cert");
    }

    // ECPrivateKey: SEQUENCE, INTEGER 1, OCTET STRING of 33 bytes.
    private static bool BeginsWithZero(string key)
    {
        int begin = key.IndexOf("-----BEGIN EC PRIVATE KEY-----", StringComparison.Ordinal);
        Assert.True(begin >= 0, key);
        var fields = System.Security.Cryptography.PemEncoding.Find(key.AsSpan(begin));
        byte[] der = Convert.FromBase64String(key[begin..][fields.Base64Data]);
        ReadOnlySpan<byte> begins = [2, 1, 1, 4, 33, 0];
        return der.AsSpan().IndexOf(begins) is > 0 and < 8;
    }

    private string Template(params string[] lines)
    {
        string path = folder.File($"template{_templates++}");
        File.WriteAllLines(path, lines);
        return path;
    }

    private void Run(params string[] arguments)
    {
        using var certtool = new PeerProcess(_certtool, arguments);
        Assert.True(certtool.WaitForExit() == 0, certtool.Output);
    }
}
