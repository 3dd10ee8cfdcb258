using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Preflight;

/// <summary>A certificate of a folder of TLS credentials.</summary>
/// <param name="File">The name of its file.</param>
/// <param name="Problem">Why it cannot be read; null if it could.</param>
internal sealed record CertificateFacts(string File, string? Problem)
{
    internal DateTime NotBefore { get; init; }

    internal DateTime NotAfter { get; init; }

    /// <summary>The names and addresses that it is for.</summary>
    internal IReadOnlyList<string> Names { get; init; } = [];
}

/// <summary>What lies on the way of the stream: TLS credentials, and who listens on this host.</summary>
internal sealed record TransportFacts
{
    private static readonly string[] Files = ["ca-cert.pem", "server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem"];

    /// <summary>Ports of this host on which a process listens already, with the address; null if it does not matter.</summary>
    internal IReadOnlyList<IPEndPoint>? Listening { get; init; }

    /// <summary>The files of the folder of TLS credentials; null if there is none.</summary>
    internal IReadOnlyList<CertificateFacts>? Certificates { get; init; }

    /// <summary>When they were looked at.</summary>
    internal DateTime Now { get; init; }

    internal static TransportFacts Read(PreflightOptions options) => new()
    {
        Now = DateTimeOffset.UtcNow.UtcDateTime,
        Listening = options.Listen is Endpoint.Tcp { Port: > 0 } ? System.Net.NetworkInformation.IPGlobalProperties.GetIPGlobalProperties().GetActiveTcpListeners() : null,
        Certificates = options.TlsCredential is { } folder ? [.. Files.Select(name => Read(folder, name))] : null,
    };

    private static CertificateFacts Read(string folder, string name)
    {
        string path = Path.Combine(folder, name);
        try
        {
            if (name.EndsWith("key.pem", StringComparison.Ordinal))
            {
                using var file = File.OpenRead(path);
                return new CertificateFacts(name, null);
            }

            using var certificate = X509CertificateLoader.LoadCertificateFromFile(path);
            var names = certificate.Extensions.OfType<X509SubjectAlternativeNameExtension>().SelectMany(extension => extension.EnumerateDnsNames().Concat(extension.EnumerateIPAddresses().Select(address => address.ToString())));
            return new CertificateFacts(name, null)
            {
                NotBefore = certificate.NotBefore.ToUniversalTime(),
                NotAfter = certificate.NotAfter.ToUniversalTime(),
                Names = [.. names],
            };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException)
        {
            return new CertificateFacts(name, e is FileNotFoundException or DirectoryNotFoundException ? "is not there" : string.Create(CultureInfo.InvariantCulture, $"cannot be read ({e.Message.TrimEnd('.')})"));
        }
    }
}
