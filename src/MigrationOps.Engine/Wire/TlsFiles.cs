using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace MigrationOps.Engine.Wire;

/// <summary>
/// Mutual TLS from a directory in the layout of QEMU's <c>tls-creds-x509</c>: ca-cert.pem, and server-cert.pem with
/// server-key.pem or client-cert.pem with client-key.pem. Everything is read and checked when it is loaded, before
/// anybody listens or connects.
/// </summary>
public sealed class TlsFiles : IDisposable
{
    private readonly X509Certificate2 _own;
    private readonly X509Certificate2Collection _authorities;
    private readonly bool _isServer;

    private TlsFiles(X509Certificate2 own, X509Certificate2Collection authorities, bool isServer)
    {
        _own = own;
        _authorities = authorities;
        _isServer = isServer;
    }

    /// <summary>Loads one side's credentials.</summary>
    /// <param name="directory">The directory with the PEM files.</param>
    /// <param name="isServer">True for the listening side.</param>
    /// <exception cref="WireException"><see cref="WireError.TlsFailed"/> naming the file and what is wrong with it.</exception>
    public static TlsFiles Load(string directory, bool isServer)
    {
        ArgumentNullException.ThrowIfNull(directory);
        string side = isServer ? "server" : "client";
        string authorityFile = Existing(directory, "ca-cert.pem");
        string certificateFile = Existing(directory, side + "-cert.pem");
        string keyFile = Existing(directory, side + "-key.pem");

        var authorities = new X509Certificate2Collection();
        X509Certificate2? own = null;
        try
        {
            Read(authorityFile, () => authorities.ImportFromPemFile(authorityFile));
            own = Read(certificateFile, () => X509Certificate2.CreateFromPemFile(certificateFile, keyFile));
            var now = DateTime.Now;
            if (now < own.NotBefore || now > own.NotAfter)
            {
                throw Failed($"The certificate '{certificateFile}' is valid from {own.NotBefore:u} to {own.NotAfter:u} only.");
            }

            if (!ChainsTo(authorities, own, out string why))
            {
                throw Failed($"The certificate '{certificateFile}' is not signed by '{authorityFile}': {why}.");
            }

            return new TlsFiles(own, authorities, isServer);
        }
        catch
        {
            own?.Dispose();
            DisposeAll(authorities);
            throw;
        }
    }

    /// <summary>Does the handshake on a connected stream.</summary>
    /// <param name="inner">The connection; the result owns it, also when the handshake fails.</param>
    /// <param name="peerName">The host name that the server's certificate must carry (client side).</param>
    /// <returns>The protected stream.</returns>
    /// <exception cref="WireException"><see cref="WireError.TlsFailed"/> with what was not accepted.</exception>
    public Stream Authenticate(FdStream inner, string peerName)
    {
        ArgumentNullException.ThrowIfNull(inner);
        string? rejected = null;
        bool Accept(object _, X509Certificate? certificate, X509Chain? __, SslPolicyErrors errors)
        {
            rejected = Reject(certificate, errors);
            return rejected is null;
        }

        var ssl = new SslStream(inner, leaveInnerStreamOpen: false, Accept);
        try
        {
            if (_isServer)
            {
                ssl.AuthenticateAsServer(new SslServerAuthenticationOptions
                {
                    ServerCertificate = _own,
                    ClientCertificateRequired = true,
                    CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                });
            }
            else
            {
                ssl.AuthenticateAsClient(new SslClientAuthenticationOptions
                {
                    TargetHost = peerName,
                    ClientCertificates = [_own],
                    CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                });
            }

            return new TlsStream(ssl, inner);
        }
        catch (Exception e) when (e is AuthenticationException or IOException
            or WireException { Reason: WireError.Disconnected })
        {
            ssl.Dispose();
            throw new WireException(WireError.TlsFailed,
                $"{inner.Name}: the TLS handshake failed: {rejected ?? Innermost(e).Message.TrimEnd('.')}.", e);
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
        _own.Dispose();
        DisposeAll(_authorities);
    }

    private string? Reject(X509Certificate? certificate, SslPolicyErrors errors)
    {
        if (certificate is null || errors.HasFlag(SslPolicyErrors.RemoteCertificateNotAvailable))
        {
            return "the peer sent no certificate";
        }

        using var peer = new X509Certificate2(certificate);
        return errors.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch)
            ? $"the peer's certificate '{peer.Subject}' is for another host name"
            : ChainsTo(_authorities, peer, out string why) ? null : $"the peer's certificate '{peer.Subject}' is not accepted: {why}";
    }

    private static bool ChainsTo(X509Certificate2Collection authorities, X509Certificate2 certificate, out string why)
    {
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.AddRange(authorities);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.DisableCertificateDownloads = true;
        bool ok = chain.Build(certificate);
        why = string.Join(", ", chain.ChainStatus.Select(s => s.StatusInformation.Trim().TrimEnd('.')).Distinct());
        return ok;
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
        catch (Exception e) when (e is CryptographicException or ArgumentException or IOException or UnauthorizedAccessException)
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
