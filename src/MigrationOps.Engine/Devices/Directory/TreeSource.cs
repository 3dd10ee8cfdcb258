using System.Security.Cryptography;

namespace MigrationOps.Engine.Devices;

/// <summary>
/// Sends a tree and keeps track of what has changed since: a scan compares every entry with what was sent, and what differs is sent
/// again.
/// </summary>
internal sealed class TreeSource(string root, TreeScanner scanner) : IDisposable
{
    private readonly Dictionary<string, TreeEntry> _sent = new(StringComparer.Ordinal);
    private readonly Dictionary<string, byte[]> _hashes = new(StringComparer.Ordinal);
    private readonly byte[] _buffer = new byte[TreeFormat.MaxData];
    private Queue<(TreeEntry? Entry, string Path)> _dirty = [];
    private TreeFileReader? _current;
    private long _queued;

    /// <summary>Bytes that are known to be pending, about.</summary>
    internal long Pending => _queued + (_current?.Left ?? 0);

    /// <summary>Looks what has to be sent now.</summary>
    internal void Scan()
    {
        var found = scanner.Scan();
        var dirty = new Queue<(TreeEntry?, string)>();
        _queued = 0;

        // The last first, so that a directory is empty when its turn comes.
        foreach (string path in _sent.Keys.Where(p => !found.TryGetValue(p, out var now) || now.Kind != _sent[p].Kind)
            .OrderDescending(StringComparer.Ordinal))
        {
            Add(null, path);
        }

        foreach (var entry in found.Values)
        {
            if (entry.Path != _current?.Entry.Path && !(_sent.TryGetValue(entry.Path, out var sent) && entry.IsAsIn(sent)))
            {
                Add(entry, entry.Path);
            }
        }

        _dirty = dirty;

        void Add(TreeEntry? entry, string path)
        {
            dirty.Enqueue((entry, path));
            _queued += CostOf(entry, path);
        }
    }

    /// <summary>Sends what is known to be pending, until the turn's bandwidth is used up.</summary>
    /// <returns>True if nothing is left.</returns>
    internal bool Send(SaveVmSaveStream stream)
    {
        var writer = new TreeRecordWriter(stream);
        while (!stream.BudgetExceeded)
        {
            if (_current is not null)
            {
                SendPiece(writer);
            }
            else if (_dirty.TryDequeue(out var next))
            {
                _queued -= CostOf(next.Entry, next.Path);
                Begin(writer, next.Entry, next.Path);
            }
            else
            {
                break;
            }
        }

        return _current is null && _dirty.Count == 0;
    }

    /// <summary>Sends all that is left of a tree in which nothing changes any more, and says that it is complete.</summary>
    internal void Complete(SaveVmSaveStream stream)
    {
        while (_current is not null)
        {
            SendPiece(new TreeRecordWriter(stream));
        }

        Scan();
        while (!Send(stream))
        {
            // There is no limit after the stop.
        }

        Scan();
        if (_dirty.TryPeek(out var changed))
        {
            throw new DirectoryException(DirectoryError.ChangedAfterStop,
                $"'{(changed.Path.Length == 0 ? "." : changed.Path)}' in '{root}' changed after the device had been stopped.")
            { Target = changed.Path };
        }

        new TreeRecordWriter(stream).Complete(_sent.Count, _sent.Values.Where(e => e.Kind == TreeKind.File).Sum(e => e.Status.Size));
    }

    /// <inheritdoc/>
    public void Dispose() => _current?.Dispose();

    private static long CostOf(TreeEntry? entry, string path) => entry?.Cost ?? path.Length;

    private void Begin(TreeRecordWriter writer, TreeEntry? entry, string path)
    {
        if (entry is null)
        {
            writer.Delete(path);
            _sent.Remove(path);
            _hashes.Remove(path);
            return;
        }

        switch (entry.Kind)
        {
            case TreeKind.Directory:
                writer.Entry(TreeRecord.Directory, entry);
                _sent[path] = entry;
                break;
            case TreeKind.Link:
                writer.Link(entry);
                _sent[path] = entry;
                break;
            default:
                BeginFile(writer, entry);
                break;
        }
    }

    private void BeginFile(TreeRecordWriter writer, TreeEntry entry)
    {
        var file = TreeFileReader.TryOpen(root, entry);
        if (file is null)
        {
            // Gone or another one by now: the next scan says what it is.
            return;
        }

        if (_sent.TryGetValue(entry.Path, out var sent) && sent.Status.Size == file.Entry.Status.Size
            && _hashes.TryGetValue(entry.Path, out byte[]? hash) && file.HasContent(hash))
        {
            using (file)
            {
                writer.Entry(TreeRecord.Attributes, file.Entry);
                _sent[entry.Path] = file.EntryNow();
            }

            return;
        }

        writer.Entry(TreeRecord.File, file.Entry);
        _current = file;
    }

    private void SendPiece(TreeRecordWriter writer)
    {
        var file = _current!;
        int count = file.Read(_buffer);
        if (count > 0)
        {
            writer.Data(_buffer.AsSpan(0, count));
            return;
        }

        byte[] hash = file.Hash();
        writer.FileEnd(file.Length, hash);
        _hashes[file.Entry.Path] = hash;
        _sent[file.Entry.Path] = file.EntryNow();
        file.Dispose();
        _current = null;
    }
}

/// <summary>Writes the records of a tree.</summary>
internal readonly ref struct TreeRecordWriter(SaveVmSaveStream stream)
{
    internal void Begin()
    {
        stream.WriteUInt32(TreeFormat.Magic);
        stream.WriteUInt32(TreeFormat.Version);
    }

    internal void Entry(TreeRecord type, TreeEntry entry)
    {
        stream.WriteByte((byte)type);
        Text(entry.Path);
        stream.WriteUInt32((uint)(entry.Status.Mode & TreeFormat.ModeMask));
        stream.WriteUInt64((ulong)entry.Status.Modified);
        if (type == TreeRecord.File)
        {
            stream.WriteUInt64((ulong)entry.Status.Size);
        }
    }

    internal void Link(TreeEntry entry)
    {
        stream.WriteByte((byte)TreeRecord.Link);
        Text(entry.Path);
        Text(entry.Target!);
    }

    internal void Delete(string path)
    {
        stream.WriteByte((byte)TreeRecord.Delete);
        Text(path);
    }

    internal void Data(ReadOnlySpan<byte> data)
    {
        stream.WriteByte((byte)TreeRecord.Data);
        stream.WriteUInt32((uint)data.Length);
        stream.Write(data);
    }

    internal void FileEnd(long length, ReadOnlySpan<byte> hash)
    {
        stream.WriteByte((byte)TreeRecord.FileEnd);
        stream.WriteUInt64((ulong)length);
        stream.Write(hash);
    }

    internal void Complete(long entries, long bytes)
    {
        stream.WriteByte((byte)TreeRecord.Complete);
        stream.WriteUInt64((ulong)entries);
        stream.WriteUInt64((ulong)bytes);
    }

    internal void EndOfBody() => stream.WriteByte((byte)TreeRecord.EndOfBody);

    private void Text(string text)
    {
        byte[] bytes = System.Text.Encoding.UTF8.GetBytes(text);
        stream.WriteUInt16((ushort)bytes.Length);
        stream.Write(bytes);
    }
}
