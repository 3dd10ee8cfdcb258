using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace MigrationOps.Engine.Storage;

/// <summary>
/// SHA-256 over the parts of a state in their order: for each the length of its name (u8), its name, the length of its
/// content (be64), its content. The parts that hold digests are left out.
/// </summary>
internal sealed class PartsDigest : IDisposable
{
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

    /// <summary>True until a part was added.</summary>
    internal bool IsEmpty { get; private set; } = true;

    internal void Add(string name, ReadOnlySpan<byte> content)
    {
        if (name is StatePart.Digest or StatePart.PartsDigest)
        {
            return;
        }

        IsEmpty = false;
        byte[] utf8 = Encoding.UTF8.GetBytes(name);
        Span<byte> length = stackalloc byte[sizeof(long)];
        BinaryPrimitives.WriteInt64BigEndian(length, content.Length);
        _hash.AppendData([(byte)utf8.Length]);
        _hash.AppendData(utf8);
        _hash.AppendData(length);
        _hash.AppendData(content);
    }

    internal byte[] Finish() => _hash.GetHashAndReset();

    public void Dispose() => _hash.Dispose();
}
