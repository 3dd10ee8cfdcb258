using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Devices;

/// <summary>A file of a tree that is being sent, as it was when it was opened: what is appended later is sent the next time.</summary>
internal sealed class TreeFileReader : IDisposable
{
    // Reading a larger file twice costs more than sending it.
    private const long MostToCompare = 64 << 20;

    private readonly SafeFileHandle _file;
    private readonly string _path;
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

    private TreeFileReader(SafeFileHandle file, string path, TreeEntry entry)
    {
        _file = file;
        _path = path;
        Entry = entry;
    }

    /// <summary>The file as it was opened.</summary>
    internal TreeEntry Entry { get; }

    /// <summary>Bytes read.</summary>
    internal long Length { get; private set; }

    /// <summary>Bytes that are still to be read, about.</summary>
    internal long Left => Math.Max(0, Entry.Status.Size - Length);

    /// <summary>Opens a file; null if it is gone, or if its name leads to something else than what was found.</summary>
    internal static TreeFileReader? TryOpen(string root, TreeEntry entry)
    {
        string path = Path.Combine(root, entry.Path);
        var file = PathStatus.TryOpen(path);
        if (file is null)
        {
            return null;
        }

        var status = PathStatus.Of(file, path);
        if (status.Inode == entry.Status.Inode && status.Device == entry.Status.Device && status.Type == PathStatus.Regular)
        {
            return new TreeFileReader(file, path, entry with { Status = status });
        }

        file.Dispose();
        return null;
    }

    /// <summary>Reads the next bytes; 0 at the end of the file as it was opened.</summary>
    internal int Read(Span<byte> buffer)
    {
        int most = (int)Math.Min(buffer.Length, Left);
        int count = RandomAccess.Read(_file, buffer[..most], Length);
        _hash.AppendData(buffer[..count]);
        Length += count;
        return count;
    }

    /// <summary>True if its content is the one of this SHA-256; a large file is not looked at.</summary>
    internal bool HasContent(ReadOnlySpan<byte> hash)
    {
        if (Entry.Status.Size > MostToCompare)
        {
            return false;
        }

        byte[] buffer = new byte[TreeFormat.MaxData];
        using var content = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        long offset = 0;
        int count;
        while ((count = RandomAccess.Read(_file, buffer, offset)) > 0)
        {
            content.AppendData(buffer, 0, count);
            offset += count;
        }

        return content.GetHashAndReset().AsSpan().SequenceEqual(hash);
    }

    /// <summary>SHA-256 of what was read.</summary>
    internal byte[] Hash() => _hash.GetHashAndReset();

    /// <summary>
    /// The file as it was opened, if it was not changed while it was read; else something that is like no file, so that the next scan
    /// finds it changed.
    /// </summary>
    internal TreeEntry EntryNow()
        => PathStatus.Of(_file, _path) == Entry.Status ? Entry : Entry with { Status = Entry.Status with { Changed = -1 } };

    /// <inheritdoc/>
    public void Dispose()
    {
        _hash.Dispose();
        _file.Dispose();
    }
}
