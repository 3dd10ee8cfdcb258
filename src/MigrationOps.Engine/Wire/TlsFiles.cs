using System.Formats.Asn1;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace MigrationOps.Engine.Wire;

/// <summary>
/// Mutual TLS from a directory in the layout of QEMU's <c>tls-creds-x509</c>: ca-cert.pem, and server-cert.pem with
/// server-key.pem or client-cert.pem with client-key.pem; a certificate file may hold the certificates up to the authority behind its
/// own, and ca-crl.pem, if it is there, says which are revoked. Everything is read and checked when it is loaded, before
/// the first listener or connection is made.
/// </summary>
internal sealed class TlsFiles : IDisposable
{
    private readonly X509Certificate2Collection _chain;
    private readonly X509Certificate2Collection _authorities;
    private readonly TlsRevocation? _revocation;
    private readonly SslStreamCertificateContext _context;
    private readonly bool _isServer;

    private TlsFiles(X509Certificate2Collection chain, X509Certificate2Collection authorities, TlsRevocation? revocation, bool isServer)
    {
        _chain = chain;
        _authorities = authorities;
        _revocation = revocation;
        _isServer = isServer;
        _context = SslStreamCertificateContext.Create(chain[0], [.. chain.Skip(1)], offline: true);
    }

    /// <summary>Loads one side's credentials.</summary>
    /// <param name="security">Names the directory with the PEM files, and the passphrase of the key if it has one.</param>
    /// <param name="isServer">True for the listening side.</param>
    /// <exception cref="WireException"><see cref="WireError.TlsFailed"/> naming the file and what is wrong with it.</exception>
    public static TlsFiles Load(TransportSecurity security, bool isServer)
    {
        ArgumentNullException.ThrowIfNull(security);
        string directory = security.TlsDirectory ?? throw new ArgumentException("There is no directory.", nameof(security));
        string side = isServer ? "server" : "client";
        RefusePreSharedKeys(directory);
        string authorityFile = Existing(directory, "ca-cert.pem");
        string certificateFile = Existing(directory, side + "-cert.pem");
        string keyFile = Existing(directory, side + "-key.pem");
        string revocationFile = Path.Combine(directory, "ca-crl.pem");

        var authorities = new X509Certificate2Collection();
        X509Certificate2Collection chain = [];
        try
        {
            Read(authorityFile, () => authorities.ImportFromPemFile(authorityFile));
            chain = Read(certificateFile, () => TlsKeys.Read(File.ReadAllText(certificateFile), File.ReadAllText(keyFile), security.TlsPassphrase, keyFile));
            var revocation = File.Exists(revocationFile) ? Read(revocationFile, () => TlsRevocation.Read(File.ReadAllText(revocationFile), authorities)) : null;
            var own = chain[0];
            var now = DateTime.Now;
            if (now < own.NotBefore || now > own.NotAfter)
            {
                throw Failed($"The certificate '{certificateFile}' is valid from {own.NotBefore:u} to {own.NotAfter:u} only.");
            }

            if (RejectChain(authorities, chain, revocation, own) is { } why)
            {
                throw Failed($"The certificate '{certificateFile}' is not accepted by '{authorityFile}': {why}.");
            }

            return new TlsFiles(chain, authorities, revocation, isServer);
        }
        catch
        {
            DisposeAll(chain);
            DisposeAll(authorities);
            throw;
        }
    }

    /// <summary>Does the handshake on a connected stream, which is bounded as a whole by the stream's limit.</summary>
    /// <param name="inner">The connection; the result owns it, also when the handshake fails.</param>
    /// <param name="peerName">The host name that the server's certificate must carry (client side).</param>
    /// <param name="within">How long it may take; null for the stream's limit.</param>
    /// <returns>The protected stream.</returns>
    /// <exception cref="WireException"><see cref="WireError.TlsFailed"/> with what was not accepted.</exception>
    public Stream Authenticate(FdStream inner, string peerName, TimeSpan? within = null)
    {
        ArgumentNullException.ThrowIfNull(inner);
        var limit = within ?? inner.Limit;
        string? rejected = null;
        bool Accept(object _, X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors)
        {
            rejected = Reject(certificate, chain, errors);
            return rejected is null;
        }

        var tickets = _isServer ? new TlsTickets(inner) : null;
        var ssl = new SslStream((Stream?)tickets ?? inner, leaveInnerStreamOpen: false, Accept);
        // Each read has the deadline of the stream, so that a peer that sends byte after byte would hold the handshake for hours.
        bool expired = false;
        using var ended = new Timer(
            _ =>
            {
                Volatile.Write(ref expired, true);
                inner.Interrupt();
            }, null, limit, Timeout.InfiniteTimeSpan);
        try
        {
            if (_isServer)
            {
                ssl.AuthenticateAsServer(new SslServerAuthenticationOptions
                {
                    ServerCertificateContext = _context,
                    ClientCertificateRequired = true,
                    CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                });
            }
            else
            {
                ssl.AuthenticateAsClient(new SslClientAuthenticationOptions
                {
                    TargetHost = peerName,
                    ClientCertificateContext = _context,
                    CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                });
            }

            tickets?.EndHandshake();
            return new TlsStream(ssl, inner);
        }
        catch (Exception e) when (e is AuthenticationException or IOException
            or WireException { Reason: WireError.Disconnected })
        {
            ssl.Dispose();
            throw new WireException(WireError.TlsFailed,
                $"{inner.Name}: the TLS handshake failed: {(Volatile.Read(ref expired) ? $"it has not ended within {limit.TotalSeconds:0.###} s" : rejected ?? Innermost(e).Message.TrimEnd('.'))}.", e);
        }
        catch
        {
            ssl.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        DisposeAll(_chain);
        DisposeAll(_authorities);
    }

    private string? Reject(X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors)
    {
        if (certificate is null || errors.HasFlag(SslPolicyErrors.RemoteCertificateNotAvailable))
        {
            return "the peer sent no certificate";
        }

        using var peer = new X509Certificate2(certificate);
        if (errors.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch))
        {
            return $"the peer's certificate '{peer.Subject}' is for another host name";
        }

        return RejectChain(_authorities, chain?.ChainPolicy.ExtraStore ?? [], _revocation, peer) is { } why
            ? $"the peer's certificate '{peer.Subject}' is not accepted: {why}" : null;
    }

    private static string? RejectChain(
        X509Certificate2Collection authorities, X509Certificate2Collection between, TlsRevocation? revocation, X509Certificate2 certificate)
    {
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.AddRange(authorities);
        chain.ChainPolicy.ExtraStore.AddRange(between);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.DisableCertificateDownloads = true;
        if (!chain.Build(certificate))
        {
            return string.Join(", ", chain.ChainStatus.Select(s => s.StatusInformation.Trim().TrimEnd('.')).Distinct());
        }

        return revocation is null ? null : chain.ChainElements.Select(e => revocation.Reject(e.Certificate)).FirstOrDefault(why => why is not null);
    }

    private static void RefusePreSharedKeys(string directory)
    {
        string keys = Path.Combine(directory, "keys.psk");
        if (File.Exists(keys) && !File.Exists(Path.Combine(directory, "ca-cert.pem")))
        {
            throw new WireException(WireError.TlsFailed, $"'{keys}' holds pre-shared keys (QEMU's tls-creds-psk), which are not supported.",
                action: "Use certificates on both sides: a directory of tls-creds-x509 with ca-cert.pem, and certificate and key of this side.");
        }
    }

    private static string Existing(string directory, string name)
    {
        string path = Path.Combine(directory, name);
        return File.Exists(path) ? path : throw Failed($"The TLS credentials lack '{path}'.");
    }

    private static void Read(string file, Action read) => Read(file, () =>
    {
        read();
        return true;
    });

    private static T Read<T>(string file, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception e) when (e is CryptographicException or AsnContentException or FormatException or ArgumentException or IOException or UnauthorizedAccessException)
        {
            throw Failed($"'{file}' (or its key) cannot be used: {e.Message.TrimEnd('.')}.", e);
        }
    }

    private static Exception Innermost(Exception e) => e.InnerException is null ? e : Innermost(e.InnerException);

    private static void DisposeAll(X509Certificate2Collection certificates)
    {
        foreach (var certificate in certificates)
        {
            certificate.Dispose();
        }
    }

    private static WireException Failed(string message, Exception? inner = null) => new(WireError.TlsFailed, message, inner);
}
