using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Storage;

/// <summary>
/// A file that appears whole or not at all: written under a temporary name in the same directory, fsynced, renamed over
/// the previous file, directory fsynced. Without <see cref="Commit"/> nothing of it is left behind.
/// </summary>
internal sealed class AtomicFile : IDisposable
{
    private const string Prefix = ".migrationops.";
    private const string Suffix = ".part";

    // A file name has 255 bytes at most.
    private const int LongestOwnName = 200;

    // A younger file may be another writer's that has not locked it yet.
    private static readonly TimeSpan s_ageOfLeftover = TimeSpan.FromMinutes(1);

    private readonly string _temporary;
    private bool _exists = true;

    private AtomicFile(string path, string temporary, FdStream stream)
    {
        Path = path;
        _temporary = temporary;
        Stream = stream;
    }

    /// <summary>The name that the file gets on commit.</summary>
    public string Path { get; }

    /// <summary>Where its content is written; it stays the file's.</summary>
    public FdStream Stream { get; }

    /// <summary>Creates the temporary file, readable by its owner only: device state is guest data.</summary>
    /// <param name="path">The final name.</param>
    /// <param name="scope">Cancellation of the writes.</param>
    /// <exception cref="WireException">The directory does not exist or does not take the file.</exception>
    public static AtomicFile Create(string path, TransferScope scope)
    {
        path = System.IO.Path.GetFullPath(path);
        if (Directory.Exists(path))
        {
            throw new WireException(WireError.InputOutput, $"'{path}' is a directory.", action: "Give the name of a file in it.")
            {
                Target = path,
            };
        }

        string directory = System.IO.Path.GetDirectoryName(path)!;
        // A process that is killed leaves the file: the name says what it was to become and who wrote it.
        string name = System.IO.Path.GetFileName(path);
        string own = System.Text.Encoding.UTF8.GetByteCount(name) <= LongestOwnName ? name + "." : "";
        string temporary = System.IO.Path.Combine(directory,
            $"{Prefix}{own}{Environment.ProcessId}.{RandomNumberGenerator.GetHexString(8, lowercase: true)}{Suffix}");
        RemoveLeftovers(directory);
        SafeFileHandle handle;
        try
        {
            handle = new FileStream(temporary, new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.ReadWrite,
                // Holds a lock while it is written, which ends with the process, on whatever host that is.
                Share = FileShare.None,
                BufferSize = 0,
                UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            }).SafeFileHandle;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The system's own words would name the temporary file, which the caller does not know.
            var (reason, why) = e switch
            {
                UnauthorizedAccessException => (WireError.AccessDenied, $"this user may not write into '{directory}'"),
                DirectoryNotFoundException => (WireError.NotFound, $"the directory '{directory}' does not exist"),
                _ => (WireError.InputOutput, e.Message.TrimEnd('.')),
            };
            throw new WireException(reason, $"'{path}' cannot be created: {why}.", e,
                "Check that the directory exists and may be written.")
            { Target = path };
        }

        return new AtomicFile(path, temporary, new FdStream(handle, FileAccess.ReadWrite, scope, path));
    }

    /// <summary>Makes the file durable under its final name.</summary>
    public void Commit() => CommitAll(this);

    /// <summary>
    /// Makes several files durable under their final names. All of them are on the disk before the first is renamed, so a
    /// disk that fills up changes none.
    /// </summary>
    /// <param name="files">In the order in which they are renamed.</param>
    /// <exception cref="WireException">One cannot be made durable, or cannot take its name.</exception>
    public static void CommitAll(params ReadOnlySpan<AtomicFile> files)
    {
        foreach (var file in files)
        {
            FdIo.Sync(file.Stream.Handle, file.Path);
            file.Stream.Dispose();
        }

        foreach (var file in files)
        {
            file.TakeName();
            DirectorySync.Flush(System.IO.Path.GetDirectoryName(file.Path)!);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Stream.Dispose();
        if (_exists)
        {
            File.Delete(_temporary);
            _exists = false;
        }
    }

    // Files of writers that were killed: their lock is free.
    private static void RemoveLeftovers(string directory)
    {
        try
        {
            foreach (string file in Directory.EnumerateFiles(directory, $"{Prefix}*{Suffix}"))
            {
                if (DateTime.UtcNow - File.GetLastWriteTimeUtc(file) > s_ageOfLeftover)
                {
                    using var abandoned = new FileStream(file, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
                    File.Delete(file);
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It is being written, or another user's; or the directory cannot be read, of which the caller's own file will tell.
        }
    }

    private void TakeName()
    {
        try
        {
            File.Move(_temporary, Path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new WireException(e is UnauthorizedAccessException ? WireError.AccessDenied : WireError.InputOutput,
                $"'{Path}' cannot be replaced: {e.Message.TrimEnd('.')}.", e)
            { Target = Path };
        }

        _exists = false;
    }
}
