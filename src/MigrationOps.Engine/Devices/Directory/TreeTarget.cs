using System.Security.Cryptography;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Devices;

/// <summary>
/// Builds a received tree in a folder of its own inside the destination, and moves it to its place once all of it is there. Only what was
/// received as a directory is written into, so that neither a name nor a link leads out of it.
/// </summary>
internal sealed class TreeTarget : IDisposable
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    private readonly string _destination;
    private readonly string _staging;
    private readonly bool _created;
    private readonly TransferScope _scope;
    private readonly Dictionary<string, Received> _entries = new(StringComparer.Ordinal);
    private TreeFileWriter? _current;
    private bool _committed;

    /// <summary>Prepares the destination.</summary>
    /// <param name="destination">A directory that is empty or not there yet.</param>
    /// <param name="scope">Cancellation of the writes.</param>
    internal TreeTarget(string destination, TransferScope scope)
    {
        _destination = destination;
        _scope = scope;
        var status = PathStatus.TryOf(destination);
        _created = status is null;
        if (status is { Type: not PathStatus.Directory })
        {
            throw new DirectoryException(DirectoryError.NotADirectory, $"'{destination}' is not a directory.") { Target = destination };
        }

        if (!_created && Directory.EnumerateFileSystemEntries(destination).FirstOrDefault() is { } something)
        {
            throw new DirectoryException(DirectoryError.DestinationNotEmpty,
                $"'{destination}' has '{Path.GetFileName(something)}' in it.")
            { Target = destination };
        }

        if (_created && !Directory.Exists(Path.GetDirectoryName(destination)))
        {
            throw new WireException(WireError.NotFound, $"'{Path.GetDirectoryName(destination)}' does not exist, where '{destination}' is to be.")
            { Target = destination };
        }

        _staging = Path.Combine(destination, $".migrationops.{RandomNumberGenerator.GetHexString(8, lowercase: true)}.part");
        Guard(destination, () => Directory.CreateDirectory(_staging, OwnerOnly));
    }

    /// <summary>True once everything is in its place.</summary>
    internal bool IsComplete => _committed;

    private sealed record Received(TreeKind Kind, int Mode, long Modified, long Size);

    /// <summary>A directory, new or with other attributes.</summary>
    internal void AddDirectory(string path, int mode, long modified)
    {
        if (path.Length > 0 && !Exists(path, TreeKind.Directory))
        {
            Guard(path, () => Directory.CreateDirectory(Place(path), OwnerOnly));
        }

        _entries[path] = new Received(TreeKind.Directory, mode, modified, 0);
    }

    /// <summary>A file, new or again; its content follows.</summary>
    internal void BeginFile(string path, int mode, long modified)
    {
        Exists(path, TreeKind.File);
        Guard(path, () => _current = new TreeFileWriter(Place(path), path, _scope));
        _entries[path] = new Received(TreeKind.File, mode, modified, 0);
    }

    /// <summary>The next bytes of that file.</summary>
    internal void Write(ReadOnlySpan<byte> data) => (_current ?? throw Invalid("data of a file comes before any has begun")).Write(data);

    /// <summary>The end of that file.</summary>
    internal void EndFile(long length, ReadOnlySpan<byte> hash)
    {
        var file = _current ?? throw Invalid("a file ends before any has begun");
        using (file)
        {
            file.Check(length, hash);
        }

        _current = null;
        var received = _entries[file.Path] with { Size = length };
        _entries[file.Path] = received;
        Guard(file.Path, () => Attribute(file.Path, received));
    }

    /// <summary>A symbolic link, new or to another target. It is never followed.</summary>
    internal void AddLink(string path, string target)
    {
        if (Exists(path, TreeKind.Link))
        {
            Guard(path, () => File.Delete(Place(path)));
        }

        if (target.Length == 0 || target.Contains('\0', StringComparison.Ordinal))
        {
            throw Invalid($"the link '{path}' points nowhere");
        }

        Guard(path, () => File.CreateSymbolicLink(Place(path), target));
        _entries[path] = new Received(TreeKind.Link, 0, 0, 0);
    }

    /// <summary>Other attributes of a file whose content stays.</summary>
    internal void SetAttributes(string path, int mode, long modified)
    {
        if (!Exists(path, TreeKind.File))
        {
            throw Invalid($"attributes of '{path}' come without the file");
        }

        var received = _entries[path] with { Mode = mode, Modified = modified };
        _entries[path] = received;
        Guard(path, () => Attribute(path, received));
    }

    /// <summary>An entry is gone.</summary>
    internal void Delete(string path)
    {
        if (path.Length == 0 || !_entries.Remove(path, out var entry))
        {
            throw Invalid($"'{path}' is deleted, which has not come");
        }

        Guard(path, () =>
        {
            if (entry.Kind == TreeKind.Directory)
            {
                Directory.Delete(Place(path));
            }
            else
            {
                File.Delete(Place(path));
            }
        });
    }

    /// <summary>The source says that this is all: checks that, and moves the tree to its place.</summary>
    internal void Complete(long entries, long bytes)
    {
        long files = _entries.Values.Sum(e => e.Size);
        if (_current is not null || entries != _entries.Count || bytes != files)
        {
            throw new DirectoryException(DirectoryError.Incomplete,
                $"The source has {entries:N0} entries with {bytes:N0} bytes, and {_entries.Count:N0} with {files:N0} came for '{_destination}'.")
            { Target = _destination };
        }

        FileSystemSync.Flush(_staging);
        Guard(_destination, Commit);
        _committed = true;
        DirectorySync.Flush(_destination);
    }

    /// <summary>Takes back everything that was not completed.</summary>
    public void Dispose()
    {
        _current?.Dispose();
        if (_committed)
        {
            return;
        }

        if (Directory.Exists(_staging))
        {
            Directory.Delete(_staging, recursive: true);
        }

        if (_created && Directory.Exists(_destination))
        {
            Directory.Delete(_destination);
        }
    }

    // A directory without write permission would not take its entries, so modes come last, from the bottom up.
    private void Commit()
    {
        var moved = new Stack<(string From, string To)>();
        try
        {
            foreach (string path in Directory.EnumerateFileSystemEntries(_staging).ToArray())
            {
                string place = Path.Combine(_destination, Path.GetFileName(path));
                if (PathStatus.TryOf(place) is not null)
                {
                    throw new DirectoryException(DirectoryError.DestinationNotEmpty, $"'{place}' was put there meanwhile.") { Target = place };
                }

                Directory.Move(path, place);
                moved.Push((path, place));
            }
        }
        catch
        {
            while (moved.TryPop(out var one))
            {
                Directory.Move(one.To, one.From);
            }

            throw;
        }

        Directory.Delete(_staging);
        foreach (var (path, entry) in _entries.Where(e => e.Value.Kind == TreeKind.Directory).OrderByDescending(e => e.Key, StringComparer.Ordinal))
        {
            string place = Path.Combine(_destination, path);
            Directory.SetLastWriteTimeUtc(place, TimeOf(entry.Modified));
            File.SetUnixFileMode(place, (UnixFileMode)entry.Mode);
        }
    }

    private void Attribute(string path, Received entry)
    {
        File.SetLastWriteTimeUtc(Place(path), TimeOf(entry.Modified));
        File.SetUnixFileMode(Place(path), (UnixFileMode)entry.Mode);
    }

    private static DateTime TimeOf(long nanoseconds) => DateTime.UnixEpoch.AddTicks(nanoseconds / 100);

    private string Place(string path) => Path.Combine(_staging, path);

    // True if it is there already; it must be of that kind, and below directories that have come.
    private bool Exists(string path, TreeKind kind)
    {
        if (TreeFormat.Fault(path) is { } fault)
        {
            throw new DirectoryException(DirectoryError.UnsafePath, $"The stream has the path '{Shown(path)}', which is refused: {fault}.") { Target = path };
        }

        if (_current is not null)
        {
            throw Invalid($"'{path}' comes inside '{_current.Path}'");
        }

        string parent = TreeFormat.ParentOf(path);
        if (parent.Length > 0 && !(_entries.TryGetValue(parent, out var above) && above.Kind == TreeKind.Directory))
        {
            throw new DirectoryException(DirectoryError.UnsafePath,
                $"The stream has the path '{path}', which is refused: '{parent}' has not come as a directory.")
            { Target = path };
        }

        if (_entries.Count >= TreeFormat.MaxEntries)
        {
            throw new DirectoryException(DirectoryError.TooManyEntries, $"More than {TreeFormat.MaxEntries:N0} entries come for '{_destination}'.") { Target = path };
        }

        return _entries.TryGetValue(path, out var there) && (there.Kind == kind
            ? true : throw Invalid($"'{path}' is a {there.Kind} and comes as a {kind}"));
    }

    // What a stream says must not play with the terminal that shows it.
    private static string Shown(string path) => new([.. path.Take(200).Select(c => char.IsControl(c) ? '?' : c)]);

    private static DirectoryException Invalid(string what) => new(DirectoryError.InvalidRecord, $"The directory section is invalid: {what}.");

    private static void Guard(string path, Action action)
    {
        try
        {
            action();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new WireException(
                e is UnauthorizedAccessException ? WireError.AccessDenied
                    : NativeError.IsSpace(e.HResult & 0xffff) ? WireError.NoSpace : WireError.InputOutput,
                $"'{path}' cannot be written: {e.Message.TrimEnd('.')}.", e)
            { Target = path };
        }
    }
}
