using System.Security.Cryptography;

namespace MigrationOps.Engine.Vfio;

/// <summary>Keeps nothing of a device's state but its digest.</summary>
internal sealed class HashSink : IDeviceStateSink
{
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

    /// <summary>SHA-256 of the raw data, once it is complete.</summary>
    public string? Sha256 { get; private set; }

    /// <inheritdoc/>
    public void Write(ReadOnlySpan<byte> data) => _hash.AppendData(data);

    /// <inheritdoc/>
    public void Complete(ReadOnlySpan<byte> config) => Sha256 = Convert.ToHexStringLower(_hash.GetHashAndReset());

    /// <inheritdoc/>
    public void Dispose() => _hash.Dispose();
}
