using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>An authority that signs certificates into directories in QEMU's x509 layout.</summary>
internal sealed class TestCertificates : IDisposable
{
    private readonly ECDsa _key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly X509Certificate2 _authority;

    internal TestCertificates(string name = "Test authority")
    {
        var request = new CertificateRequest($"CN={name}", _key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign, true));
        _authority = request.CreateSelfSigned(Today.AddDays(-400), Today.AddDays(400));
    }

    private static DateTimeOffset Today => DateTimeOffset.UtcNow;

    /// <summary>Writes a side's certificate and key, and the authority's certificate.</summary>
    internal void Write(string directory, string side, string host = "127.0.0.1", int fromDays = -1, int toDays = 30)
    {
        Directory.CreateDirectory(directory);
        File.WriteAllText(Path.Combine(directory, "ca-cert.pem"), _authority.ExportCertificatePem());
        var (certificate, key) = Sign(side, host, fromDays, toDays);
        using (certificate)
        using (key)
        {
            File.WriteAllText(Path.Combine(directory, side + "-cert.pem"), certificate.ExportCertificatePem());
            File.WriteAllText(Path.Combine(directory, side + "-key.pem"), key.ExportPkcs8PrivateKeyPem());
        }
    }

    /// <summary>Writes both sides' files, as a host that sends and receives has them.</summary>
    internal string WriteBoth(string directory)
    {
        Write(directory, "server");
        Write(directory, "client");
        return directory;
    }

    public void Dispose()
    {
        _authority.Dispose();
        _key.Dispose();
    }

    private (X509Certificate2 Certificate, ECDsa Key) Sign(string side, string host, int fromDays, int toDays)
    {
        var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN=Test {side}", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        if (IPAddress.TryParse(host, out var address))
        {
            names.AddIpAddress(address);
        }
        else
        {
            names.AddDnsName(host);
        }

        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension(
            [new Oid(side == "server" ? "1.3.6.1.5.5.7.3.1" : "1.3.6.1.5.5.7.3.2")], false));
        return (request.Create(_authority, Today.AddDays(fromDays), Today.AddDays(toDays), RandomNumberGenerator.GetBytes(8)), key);
    }
}
