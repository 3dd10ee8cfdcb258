using System.IO.Enumeration;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Devices;

/// <summary>Finds what is in a directory. Links are not followed; what vanishes meanwhile is not there.</summary>
internal sealed class TreeScanner(string root, IReadOnlyList<string> include, CancellationToken cancellationToken)
{
    /// <summary>All entries by path, a directory before what is in it.</summary>
    internal SortedDictionary<string, TreeEntry> Scan()
    {
        var found = new SortedDictionary<string, TreeEntry>(StringComparer.Ordinal);
        var status = PathStatus.TryOf(root);
        if (status is not { Type: PathStatus.Directory } directory)
        {
            throw new DirectoryException(DirectoryError.NotADirectory, $"'{root}' is {(status is null ? "not there" : "no directory")}.") { Target = root };
        }

        found.Add("", new TreeEntry("", TreeKind.Directory, directory));
        Enter("", found);
        return include.Count == 0 ? found : Included(found);
    }

    private void Enter(string path, SortedDictionary<string, TreeEntry> found)
    {
        // A stack of our own would be needed only for trees deeper than a path can be long.
        foreach (string name in NamesIn(path))
        {
            cancellationToken.ThrowIfCancellationRequested();
            string child = path.Length == 0 ? name : $"{path}/{name}";
            if (TreeFormat.Fault(child) is { } fault)
            {
                throw new DirectoryException(DirectoryError.UnsafePath, $"'{child}' in '{root}' cannot be sent: {fault}.") { Target = child };
            }

            if (PathStatus.TryOf(Path.Combine(root, child)) is not { } status)
            {
                continue;
            }

            if (found.Count == TreeFormat.MaxEntries)
            {
                throw new DirectoryException(DirectoryError.TooManyEntries, $"'{root}' has more than {TreeFormat.MaxEntries:N0} entries.") { Target = root };
            }

            if (EntryOf(child, status) is { } entry)
            {
                found.Add(child, entry);
                if (entry.Kind == TreeKind.Directory)
                {
                    Enter(child, found);
                }
            }
        }
    }

    private List<string> NamesIn(string path)
    {
        try
        {
            // Names only: what they are is asked without following links.
            return [.. new FileSystemEnumerable<string>(Path.Combine(root, path), (ref FileSystemEntry e) => e.FileName.ToString(),
                new EnumerationOptions { AttributesToSkip = 0, IgnoreInaccessible = false })];
        }
        catch (DirectoryNotFoundException) when (path.Length > 0)
        {
            return [];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new WireException(e is UnauthorizedAccessException ? WireError.AccessDenied : WireError.InputOutput,
                $"'{Path.Combine(root, path)}' cannot be read: {e.Message.TrimEnd('.')}.", e)
            { Target = root };
        }
    }

    private TreeEntry? EntryOf(string path, PathStatus status)
    {
        switch (status.Type)
        {
            case PathStatus.Directory:
                return new TreeEntry(path, TreeKind.Directory, status);
            case PathStatus.Regular:
                return new TreeEntry(path, TreeKind.File, status);
            case PathStatus.Link:
                string? target = new FileInfo(Path.Combine(root, path)).LinkTarget;
                return target is null ? null
                    : !target.Contains('\uFFFD', StringComparison.Ordinal) ? new TreeEntry(path, TreeKind.Link, status, target)
                    : throw new DirectoryException(DirectoryError.UnsafePath, $"The link '{path}' in '{root}' cannot be sent: its target is not valid UTF-8.") { Target = path };
            case var _ when include.Count > 0 && !IsIncluded(path):
                return null;
            default:
                throw new DirectoryException(DirectoryError.UnsupportedFile,
                    $"'{path}' in '{root}' is neither a file nor a directory nor a symbolic link.")
                { Target = path };
        }
    }

    private bool IsIncluded(string path)
    {
        foreach (string pattern in include)
        {
            if (FileSystemName.MatchesSimpleExpression(pattern, path, ignoreCase: false))
            {
                return true;
            }
        }

        return false;
    }

    // What matches, and the directories on the way to it.
    private SortedDictionary<string, TreeEntry> Included(SortedDictionary<string, TreeEntry> found)
    {
        var included = new SortedDictionary<string, TreeEntry>(StringComparer.Ordinal) { [""] = found[""] };
        foreach (var entry in found.Values)
        {
            for (string path = entry.Path; IsIncluded(entry.Path) && included.TryAdd(path, found[path]);)
            {
                path = TreeFormat.ParentOf(path);
            }
        }

        return included;
    }
}
