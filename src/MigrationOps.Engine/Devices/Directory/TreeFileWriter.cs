using System.Security.Cryptography;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Devices;

/// <summary>A file of a tree that is being received, readable by its owner only until it is complete.</summary>
internal sealed class TreeFileWriter : IDisposable
{
    private readonly FdStream _file;
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private long _length;

    /// <summary>Creates the file, or empties the one that came before.</summary>
    internal TreeFileWriter(string place, string path, TransferScope scope)
    {
        Path = path;
        if (File.Exists(place))
        {
            // It may have come with a mode that does not let its owner write.
            File.Delete(place);
        }

        var handle = new FileStream(place, new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            BufferSize = 0,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        }).SafeFileHandle;
        _file = new FdStream(handle, FileAccess.Write, scope, place);
    }

    /// <summary>Its path in the tree.</summary>
    internal string Path { get; }

    internal void Write(ReadOnlySpan<byte> data)
    {
        _file.Write(data);
        _hash.AppendData(data);
        _length += data.Length;
    }

    /// <summary>Compares what came with what the source has read.</summary>
    internal void Check(long length, ReadOnlySpan<byte> hash)
    {
        if (length != _length || !_hash.GetHashAndReset().AsSpan().SequenceEqual(hash))
        {
            throw new DirectoryException(DirectoryError.Damaged,
                $"The content of '{Path}' is damaged: {_length:N0} bytes came, the source read {length:N0} with another SHA-256 or length.")
            { Target = Path };
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _hash.Dispose();
        _file.Dispose();
    }
}
