using System.Buffers;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Devices;

/// <summary>
/// A directory, or a set of files below it, as an iterating device of a migration stream. It is sent while it is in use; what changes
/// meanwhile is sent again, until what is left fits into the downtime. On the target everything appears in the destination when
/// all of it is there, and nothing of it if the migration fails before.
/// <para>Files, directories and symbolic links travel, with content, permissions and time of modification; owners, hard links,
/// extended attributes and holes do not, and anything else is refused. Links are never followed.</para>
/// </summary>
/// <remarks>
/// <code>
/// source: scan → START → ( PART: records → scan? )* → END: scan, records, scan again, Complete
/// target: staging folder → records … → Complete: counts compared, tree moved to its place
/// </code>
/// </remarks>
internal sealed class DirectoryDevice : ISaveVmHandlers, IDisposable
{
    private readonly string _path;
    private readonly string[] _include;
    private TreeSource? _source;
    private TreeTarget? _target;
    private TransferScope? _scope;
    private bool _begun;

    /// <summary>A device for a directory.</summary>
    /// <param name="path">What is sent, or where it goes: there a directory that is empty or not there yet.</param>
    /// <param name="include">
    /// Patterns for the paths below the directory that are sent, with * for any characters, "/" included; none for all.
    /// </param>
    public DirectoryDevice(string path, params string[] include)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(include);
        _path = Path.GetFullPath(path);
        _include = include;
    }

    /// <inheritdoc/>
    public void SavePrepare(SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        Dispose();
        _source = new TreeSource(_path, new TreeScanner(_path, _include, context.CancellationToken));
        _source.Scan();
    }

    /// <inheritdoc/>
    public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(stream);
        var writer = new TreeRecordWriter(stream);
        writer.Begin();
        writer.EndOfBody();
    }

    /// <inheritdoc/>
    public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(stream);
        bool done = _source!.Send(stream);
        new TreeRecordWriter(stream).EndOfBody();
        return done;
    }

    /// <inheritdoc/>
    public PendingBytes StatePendingEstimate(SaveVmContext context) => new(_source!.Pending);

    /// <inheritdoc/>
    public PendingBytes StatePendingExact(SaveVmContext context)
    {
        _source!.Scan();
        return new(_source.Pending);
    }

    /// <inheritdoc/>
    public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(stream);
        _source!.Complete(stream);
        new TreeRecordWriter(stream).EndOfBody();
    }

    /// <inheritdoc/>
    public void SaveCleanup(SaveVmContext context) => Dispose();

    /// <inheritdoc/>
    public void LoadSetup(SaveVmContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        Dispose();
        _scope = new TransferScope(Timeout.InfiniteTimeSpan, context.CancellationToken);
        _target = new TreeTarget(_path, _scope);
        _begun = false;
    }

    /// <inheritdoc/>
    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
    {
        ArgumentNullException.ThrowIfNull(stream);
        var reader = new TreeRecordReader(stream, _target!);
        if (!_begun)
        {
            reader.ReadBegin();
            _begun = true;
        }

        byte[] buffer = ArrayPool<byte>.Shared.Rent(TreeFormat.MaxData);
        try
        {
            reader.ReadBody(buffer);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <inheritdoc/>
    public void LoadCleanup(SaveVmContext context)
    {
        bool lacking = _begun && _target is { IsComplete: false };
        Dispose();
        if (lacking)
        {
            throw new DirectoryException(DirectoryError.Incomplete, $"The tree for '{_path}' did not come to its end; nothing of it is there.") { Target = _path };
        }
    }

    /// <summary>Ends a migration of it, as a cleanup does.</summary>
    public void Dispose()
    {
        _source?.Dispose();
        _target?.Dispose();
        _scope?.Dispose();
        (_source, _target, _scope) = (null, null, null);
    }
}
