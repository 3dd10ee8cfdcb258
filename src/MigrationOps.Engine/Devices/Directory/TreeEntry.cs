using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Devices;

/// <summary>What an entry of a tree is.</summary>
internal enum TreeKind
{
    Directory,
    File,
    Link,
}

/// <summary>One entry of a tree as it was found.</summary>
/// <param name="Path">Its path from the root, "/" between the names; empty for the root.</param>
/// <param name="Kind">What it is.</param>
/// <param name="Status">Its size, times and mode.</param>
/// <param name="Target">Where a link points to.</param>
internal sealed record TreeEntry(string Path, TreeKind Kind, PathStatus Status, string? Target = null)
{
    // What a record costs beside its content, about.
    private const int Overhead = 64;

    /// <summary>Bytes to send for it, about.</summary>
    internal long Cost => Overhead + Path.Length + (Kind == TreeKind.File ? Status.Size : 0);

    /// <summary>
    /// True if it has not changed since the other was found. The times of a directory change with its entries, which are
    /// looked at themselves; the last change of a file cannot be set back, so nothing is missed.
    /// </summary>
    internal bool IsAsIn(TreeEntry other) => Kind == other.Kind && Kind switch
    {
        TreeKind.Directory => Status.Mode == other.Status.Mode && Status.Modified == other.Status.Modified,
        TreeKind.Link => Target == other.Target,
        _ => Status == other.Status,
    };
}
