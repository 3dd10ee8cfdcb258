using System.Security.Cryptography;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>
/// Keeps a migration in a folder that gets its name only when everything is in it and on the disk. Without
/// <see cref="Commit"/> nothing is left behind.
/// </summary>
internal sealed class ArchiveWriter : IMigrationRecorder, IDisposable
{
    private readonly string _folder;
    private readonly string _temporary;
    private readonly Lock _lock = new();
    private readonly List<RecordedStream> _streams = [];
    private bool _committed;

    /// <summary>Prepares the folder.</summary>
    /// <param name="folder">The archive's folder: not there yet, or empty.</param>
    /// <exception cref="MultifdException"><see cref="MultifdError.ArchiveExists"/>.</exception>
    public ArchiveWriter(string folder)
    {
        _folder = Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));
        if (File.Exists(_folder) || (Directory.Exists(_folder) && Directory.EnumerateFileSystemEntries(_folder).Any()))
        {
            throw new MultifdException(MultifdError.ArchiveExists, $"'{_folder}' is not empty.") { Target = _folder };
        }

        _temporary = $"{_folder}.{RandomNumberGenerator.GetHexString(8, lowercase: true)}.part";
        try
        {
            // Guest memory: readable by its owner only.
            Directory.CreateDirectory(_temporary, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MultifdException(MultifdError.ArchiveExists, $"'{_folder}' cannot be created: {e.Message.TrimEnd('.')}.", e,
                "Check that the folder above it exists and may be written.")
            { Target = _folder };
        }
    }

    /// <inheritdoc/>
    public Stream OpenMain() => Open(MigrationArchive.MainName, null);

    /// <inheritdoc/>
    public Stream OpenChannel(int id) => Open(MigrationArchive.ChannelName(id), id);

    /// <summary>Writes the index and gives the folder its name.</summary>
    /// <param name="summary">What was received.</param>
    /// <param name="devices">Its devices.</param>
    /// <param name="source">Where it was received.</param>
    public MigrationArchive Commit(MigrationSummary summary, IEnumerable<ArchivedDevice> devices, string source)
    {
        ArgumentNullException.ThrowIfNull(summary);
        var archive = new MigrationArchive
        {
            Machine = summary.Machine ?? "",
            Uuid = summary.Uuid,
            PageSize = summary.PageSize,
            Compression = summary.Compression.ToString(),
            Streams = [.. _streams.OrderBy(s => s.Channel ?? -1).Select(s => s.Describe())],
            Devices = [.. devices],
            Source = source,
            FinishedAt = DateTimeOffset.UtcNow,
        };
        archive.Write(_temporary);
        foreach (string file in Directory.EnumerateFiles(_temporary))
        {
            using var handle = File.OpenHandle(file, FileMode.Open, FileAccess.ReadWrite);
            FdIo.Sync(handle, file);
        }

        DirectorySync.Flush(_temporary);
        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder);
        }

        Directory.Move(_temporary, _folder);
        _committed = true;
        DirectorySync.Flush(Path.GetDirectoryName(_folder)!);
        return archive;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _streams.ForEach(s => s.Dispose());
        if (!_committed)
        {
            Directory.Delete(_temporary, recursive: true);
        }
    }

    private RecordedStream Open(string name, int? channel)
    {
        var stream = new RecordedStream(Path.Combine(_temporary, name), channel);
        lock (_lock)
        {
            _streams.Add(stream);
        }

        return stream;
    }

    private sealed class RecordedStream : WriteOnlyStream
    {
        private readonly FileStream _file;
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        private string? _digest;

        internal RecordedStream(string path, int? channel)
        {
            Channel = channel;
            _file = new FileStream(path, new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.Write,
                BufferSize = 64 * 1024,
                UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            });
        }

        internal int? Channel { get; }

        public override void Flush() => _file.Flush();

        protected override void Take(ReadOnlySpan<byte> data)
        {
            _file.Write(data);
            _hash.AppendData(data);
        }

        internal ArchivedStream Describe() => new(Path.GetFileName(_file.Name), Channel, Bytes, _digest!);

        protected override void Dispose(bool disposing)
        {
            if (disposing && _digest is null)
            {
                _digest = Convert.ToHexStringLower(_hash.GetHashAndReset());
                _hash.Dispose();
                _file.Dispose();
            }

            base.Dispose(disposing);
        }
    }
}
