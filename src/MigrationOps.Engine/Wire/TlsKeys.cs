using System.Formats.Asn1;
using System.Net;
using System.Runtime.InteropServices;
using System.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace MigrationOps.Engine.Wire;

/// <summary>Reads a side's certificate with its key, as the tools write them that people use for QEMU's directories. It does no I/O.</summary>
internal static class TlsKeys
{
    private const string EllipticCurve = "1.2.840.10045.2.1";
    private const string Rsa = "1.2.840.113549.1.1.1";

    // What TLS of this platform cannot use, by what people call it.
    private static readonly Dictionary<string, string> s_unsupported = new(StringComparer.Ordinal)
    {
        ["1.2.840.113549.1.1.10"] = "RSA-PSS",
        ["1.3.101.112"] = "Ed25519",
        ["1.3.101.113"] = "Ed448",
        ["1.2.840.10040.4.1"] = "DSA",
    };

    /// <summary>Reads a certificate file and its key file.</summary>
    /// <param name="certificates">Text of the certificate file: the side's own certificate first, then those between it and the authority.</param>
    /// <param name="key">Text of the key file.</param>
    /// <param name="passphrase">For an encrypted key, or null.</param>
    /// <param name="keyFile">What errors call the key file.</param>
    /// <returns>The certificates in the file's order; the first has its key. The caller disposes them.</returns>
    /// <exception cref="WireException"><see cref="WireError.TlsFailed"/>: what kind of key it is, and what to do.</exception>
    internal static X509Certificate2Collection Read(string certificates, string key, SecureString? passphrase, string keyFile)
    {
        var chain = new X509Certificate2Collection();
        chain.ImportFromPem(certificates);
        if (chain.Count == 0)
        {
            throw new CryptographicException("it holds no PEM certificate");
        }

        try
        {
            var own = chain[0];
            RefuseUnsupported(own.GetKeyAlgorithm(), keyFile);
            chain[0] = WithKey(own, key, passphrase, keyFile);
            own.Dispose();
            return chain;
        }
        catch
        {
            foreach (var certificate in chain)
            {
                certificate.Dispose();
            }

            throw;
        }
    }

    private static X509Certificate2 WithKey(X509Certificate2 certificate, string key, SecureString? passphrase, string keyFile)
    {
        var found = FindKey(key, keyFile);
        byte[] body = Convert.FromBase64String(key[found.Base64Data]);
        string label = key[found.Label];
        try
        {
            if (label == "ENCRYPTED PRIVATE KEY" && passphrase is null)
            {
                throw Failed($"The key '{keyFile}' is encrypted.", "Give its passphrase (QEMU's passwordid), or write the key without one: openssl pkey -in KEY -out NEW.");
            }

            if (label == "PRIVATE KEY")
            {
                RefuseUnsupported(AlgorithmOf(body), keyFile);
            }

            using AsymmetricAlgorithm algorithm = certificate.GetKeyAlgorithm() == EllipticCurve ? ECDsa.Create() : RSA.Create();
            Import(algorithm, label, body, passphrase, keyFile);
            return algorithm is ECDsa curve ? certificate.CopyWithPrivateKey(curve) : certificate.CopyWithPrivateKey((RSA)algorithm);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(body);
        }
    }

    private static void Import(AsymmetricAlgorithm algorithm, string label, byte[] body, SecureString? passphrase, string keyFile)
    {
        try
        {
            switch (label)
            {
                case "ENCRYPTED PRIVATE KEY":
                    WithCharacters(passphrase!, characters => algorithm.ImportEncryptedPkcs8PrivateKey(characters, body, out _));
                    break;
                case "PRIVATE KEY":
                    algorithm.ImportPkcs8PrivateKey(algorithm is ECDsa ? TrimPkcs8(body) : body, out _);
                    break;
                case "EC PRIVATE KEY" when algorithm is ECDsa curve:
                    curve.ImportECPrivateKey(TrimScalar(body), out _);
                    break;
                case "RSA PRIVATE KEY" when algorithm is RSA rsa:
                    rsa.ImportRSAPrivateKey(body, out _);
                    break;
                default:
                    throw Failed($"The key '{keyFile}' is a '{label}', and the certificate's key is of another kind.", "Put the key of this certificate there.");
            }
        }
        catch (CryptographicException e) when (label == "ENCRYPTED PRIVATE KEY")
        {
            throw Failed($"The key '{keyFile}' cannot be read with this passphrase: {e.Message.TrimEnd('.')}.",
                "Check the passphrase. If it is right, write the key without one: openssl pkey -in KEY -out NEW.", e);
        }
    }

    // The first key of the file, whatever certtool or others print around it.
    private static PemFields FindKey(string text, string keyFile)
    {
        for (int from = 0; PemEncoding.TryFind(text.AsSpan(from), out var fields); from += fields.Location.End.Value)
        {
            string label = text.AsSpan(from)[fields.Label].ToString();
            if (label.EndsWith("PRIVATE KEY", StringComparison.Ordinal))
            {
                return from == 0 ? fields : FindKey(text[from..], keyFile);
            }
        }

        throw text.Contains("Proc-Type: 4,ENCRYPTED", StringComparison.Ordinal)
            ? Failed($"The key '{keyFile}' is encrypted in OpenSSL's old format.", "Write it in PKCS#8: openssl pkcs8 -topk8 -in KEY -out NEW.")
            : Failed($"'{keyFile}' holds no private key in PEM.", "Put the key of the certificate there, in PEM (PKCS#8, SEC1 or PKCS#1).");
    }

    private static void RefuseUnsupported(string oid, string keyFile)
    {
        if (s_unsupported.TryGetValue(oid, out string? name) || oid is not (EllipticCurve or Rsa))
        {
            throw Failed($"The key '{keyFile}' is of the kind {name ?? oid}, which TLS of this platform cannot use.",
                "Give this side a certificate with an RSA or an EC key (certtool --generate-privkey --key-type=ecdsa). The other side may keep its own.");
        }
    }

    // PrivateKeyInfo: version, algorithm, key in an OCTET STRING.
    private static string AlgorithmOf(byte[] pkcs8)
    {
        var info = new AsnReader(pkcs8, AsnEncodingRules.BER).ReadSequence();
        info.ReadInteger();
        return info.ReadSequence().ReadObjectIdentifier();
    }

    private static byte[] TrimPkcs8(byte[] pkcs8)
    {
        var info = new AsnReader(pkcs8, AsnEncodingRules.BER).ReadSequence();
        var writer = new AsnWriter(AsnEncodingRules.DER);
        using (writer.PushSequence())
        {
            writer.WriteInteger(info.ReadInteger());
            writer.WriteEncodedValue(info.ReadEncodedValue().Span);
            writer.WriteOctetString(TrimScalar(info.ReadOctetString()));
        }

        return writer.Encode();
    }

    // ECPrivateKey (RFC 5915). The number has the length of the curve's order; GnuTLS writes it as an INTEGER would be, with a zero
    // before it whenever its first bit is set.
    private static byte[] TrimScalar(byte[] sec1)
    {
        var key = new AsnReader(sec1, AsnEncodingRules.BER).ReadSequence();
        var writer = new AsnWriter(AsnEncodingRules.DER);
        using (writer.PushSequence())
        {
            writer.WriteInteger(key.ReadInteger());
            byte[] scalar = key.ReadOctetString();
            writer.WriteOctetString(scalar.Length % 2 == 1 && scalar[0] == 0 ? scalar.AsSpan(1) : scalar);
            while (key.HasData)
            {
                writer.WriteEncodedValue(key.ReadEncodedValue().Span);
            }
        }

        return writer.Encode();
    }

    private static void WithCharacters(SecureString secret, Action<ReadOnlySpan<char>> use)
    {
        nint copy = Marshal.SecureStringToGlobalAllocUnicode(secret);
        try
        {
            unsafe
            {
                use(new ReadOnlySpan<char>((void*)copy, secret.Length));
            }
        }
        finally
        {
            Marshal.ZeroFreeGlobalAllocUnicode(copy);
        }
    }

    private static WireException Failed(string message, string action, Exception? inner = null) => new(WireError.TlsFailed, message, inner, action);
}
