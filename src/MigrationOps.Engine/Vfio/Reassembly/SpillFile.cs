using Microsoft.Win32.SafeHandles;

namespace MigrationOps.Engine.Vfio;

/// <summary>
/// Where packets wait that no longer fit in memory: a file in the destination's directory that has no name, so that
/// nothing is left behind whatever happens.
/// </summary>
internal sealed class SpillFile(string directory) : IDisposable
{
    private readonly Lock _lock = new();
    private SafeFileHandle? _file;
    private long _end;
    private long _kept;

    /// <summary>Reserves room.</summary>
    /// <returns>Its offset.</returns>
    internal long Reserve(int length)
    {
        lock (_lock)
        {
            _file ??= Create();
            long offset = _end;
            _end += length;
            _kept += length;
            return offset;
        }
    }

    internal void Write(long offset, ReadOnlySpan<byte> data)
    {
        try
        {
            RandomAccess.Write(_file!, data, offset);
        }
        catch (IOException e)
        {
            throw Failed("write", e);
        }
    }

    internal void Read(long offset, Span<byte> data)
    {
        try
        {
            for (int filled = 0; filled < data.Length;)
            {
                int count = RandomAccess.Read(_file!, data[filled..], offset + filled);
                filled += count > 0 ? count : throw new EndOfStreamException("The spill file is shorter than what was written to it.");
            }
        }
        catch (IOException e)
        {
            throw Failed("read", e);
        }
    }

    /// <summary>Gives room back; the file shrinks when nothing is left in it.</summary>
    internal void Release(int length)
    {
        lock (_lock)
        {
            _kept -= length;
            if (_kept == 0)
            {
                _end = 0;
                Shrink();
            }
        }
    }

    public void Dispose() => _file?.Dispose();

    private void Shrink()
    {
        try
        {
            RandomAccess.SetLength(_file!, 0);
        }
        catch (IOException e)
        {
            throw Failed("shrink", e);
        }
    }

    private SafeFileHandle Create()
    {
        string path = Path.Combine(directory, $".migrationops-spill-{Guid.NewGuid():N}");
        try
        {
            var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
            try
            {
                File.Delete(path);
                return file;
            }
            catch
            {
                file.Dispose();
                throw;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failed("create", e);
        }
    }

    private VfioException Failed(string what, Exception e)
        => new(VfioError.SpillFailed, $"Cannot {what} the spill file in '{directory}': {e.Message.TrimEnd('.')}.", e) { Target = directory };
}
