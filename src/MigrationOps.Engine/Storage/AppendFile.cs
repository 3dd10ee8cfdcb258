using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;

namespace MigrationOps.Engine.Storage;

/// <summary>
/// A file that records are appended to, such as a log. Each record is one write with O_APPEND, so that several writers,
/// in this process or in others, never write over one another. Thread-safe.
/// </summary>
internal sealed class AppendFile : IDisposable
{
    private readonly SafeFileHandle _handle;

    /// <summary>Opens the file, or creates it.</summary>
    /// <exception cref="IOException">It cannot be opened.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be written.</exception>
    public AppendFile(string path)
    {
        _handle = File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.ReadWrite);
        try
        {
            // FileMode.Append writes at the place where the end was when the file was opened.
            Fcntl.SetAppend(_handle, path);
        }
        catch
        {
            _handle.Dispose();
            throw;
        }
    }

    /// <summary>Writes a record behind everything that is there.</summary>
    public void Append(ReadOnlySpan<byte> record) => RandomAccess.Write(_handle, record, 0);

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();
}
