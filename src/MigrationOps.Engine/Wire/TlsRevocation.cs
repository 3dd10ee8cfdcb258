using System.Formats.Asn1;
using System.Numerics;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace MigrationOps.Engine.Wire;

/// <summary>
/// Revocation lists of QEMU's directory (ca-crl.pem): which certificates of an authority are no longer good. A list that has run out
/// still names what it revokes and says nothing of the others, as in QEMU. It does no I/O. Source: RFC 5280, section 5.
/// </summary>
internal sealed class TlsRevocation
{
    private const string PemLabel = "X509 CRL";

    private readonly List<RevocationList> _lists = [];

    private sealed record RevocationList(byte[] Issuer, HashSet<BigInteger> Serials);

    /// <summary>Reads the lists of a file. A list that none of the authorities has signed counts for nothing, as in QEMU.</summary>
    /// <exception cref="CryptographicException">A list cannot be read.</exception>
    internal static TlsRevocation Read(string text, X509Certificate2Collection authorities)
    {
        var revocation = new TlsRevocation();
        bool any = false;
        for (var rest = text.AsSpan(); PemEncoding.TryFind(rest, out var fields); rest = rest[fields.Location.End.Value..])
        {
            if (rest[fields.Label].SequenceEqual(PemLabel))
            {
                any = true;
                revocation.Add(Convert.FromBase64String(rest[fields.Base64Data].ToString()), authorities);
            }
        }

        return any ? revocation : throw new CryptographicException("it holds no PEM revocation list");
    }

    /// <summary>Why a certificate is not good, or null.</summary>
    internal string? Reject(X509Certificate2 certificate)
    {
        var serial = new BigInteger(certificate.SerialNumberBytes.Span, isUnsigned: true, isBigEndian: true);
        return _lists.Any(l => l.Issuer.AsSpan().SequenceEqual(certificate.IssuerName.RawData) && l.Serials.Contains(serial))
            ? "it is revoked by ca-crl.pem" : null;
    }

    private void Add(byte[] der, X509Certificate2Collection authorities)
    {
        try
        {
            var outer = new AsnReader(der, AsnEncodingRules.DER).ReadSequence();
            var signedBytes = outer.PeekEncodedValue();
            var body = outer.ReadSequence();
            string algorithm = outer.ReadSequence().ReadObjectIdentifier();
            byte[] signature = outer.ReadBitString(out _);
            if (body.PeekTag() == Asn1Tag.Integer)
            {
                body.ReadInteger();
            }

            body.ReadSequence();
            byte[] issuer = body.ReadEncodedValue().ToArray();
            SkipTime(body);
            SkipTime(body);
            var serials = new HashSet<BigInteger>();
            if (body.HasData && body.PeekTag() == Asn1Tag.Sequence)
            {
                for (var entries = body.ReadSequence(); entries.HasData;)
                {
                    serials.Add(entries.ReadSequence().ReadInteger());
                }
            }

            bool known = authorities.Any(a => a.SubjectName.RawData.AsSpan().SequenceEqual(issuer) && IsSignedBy(a, signedBytes.Span, signature, algorithm));
            if (known)
            {
                _lists.Add(new RevocationList(issuer, serials));
            }
        }
        catch (AsnContentException e)
        {
            throw new CryptographicException("a revocation list in it is damaged", e);
        }
    }

    private static void SkipTime(AsnReader reader)
    {
        if (reader.HasData && reader.PeekTag() is { TagClass: TagClass.Universal, TagValue: (int)UniversalTagNumber.UtcTime or (int)UniversalTagNumber.GeneralizedTime })
        {
            reader.ReadEncodedValue();
        }
    }

    // An authority whose signatures cannot be checked here is taken by its name: to pass over a revocation is worse.
    private static bool IsSignedBy(X509Certificate2 authority, ReadOnlySpan<byte> signedBytes, byte[] signature, string algorithm)
    {
        HashAlgorithmName? hash = algorithm switch
        {
            "1.2.840.113549.1.1.11" or "1.2.840.10045.4.3.2" => HashAlgorithmName.SHA256,
            "1.2.840.113549.1.1.12" or "1.2.840.10045.4.3.3" => HashAlgorithmName.SHA384,
            "1.2.840.113549.1.1.13" or "1.2.840.10045.4.3.4" => HashAlgorithmName.SHA512,
            _ => null,
        };
        if (hash is not { } name)
        {
            return true;
        }

        using var rsa = authority.GetRSAPublicKey();
        using var curve = authority.GetECDsaPublicKey();
        return rsa?.VerifyData(signedBytes, signature, name, RSASignaturePadding.Pkcs1)
            ?? curve?.VerifyData(signedBytes, signature, name, DSASignatureFormat.Rfc3279DerSequence)
            ?? true;
    }
}
