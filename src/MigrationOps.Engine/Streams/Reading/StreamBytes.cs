using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>Gives the bytes of a stream again after it has been walked, by their offset in the stream.</summary>
internal abstract class StreamBytes : IDisposable
{
    /// <summary>Fills the span with the bytes from the offset on.</summary>
    internal abstract void Read(long offset, Span<byte> destination);

    public abstract void Dispose();

    protected static StreamException Gone(long offset)
        => new(StreamError.Truncated, $"The bytes at {offset:N0} are missing: the stream changed while it was read.")
        { ByteOffset = offset };
}

/// <summary>The bytes of a stream that lies in a file.</summary>
internal sealed class FileBytes(SafeFileHandle handle, long baseOffset) : StreamBytes
{
    internal override void Read(long offset, Span<byte> destination)
    {
        while (!destination.IsEmpty)
        {
            int count = RandomAccess.Read(handle, destination, baseOffset + offset);
            if (count == 0)
            {
                throw Gone(offset);
            }

            destination = destination[count..];
            offset += count;
        }
    }

    // The handle is the source's.
    public override void Dispose()
    {
    }
}

/// <summary>
/// The bodies of device sections of a stream that comes through a pipe, kept in an unnamed temporary file: memory stays
/// bounded however large a device's state is.
/// </summary>
internal sealed class SpooledBytes : StreamBytes
{
    private readonly List<(long StreamOffset, long SpoolOffset)> _runs = [];
    private readonly SafeFileHandle _file;
    private long _length;
    private long _next = -1;

    internal SpooledBytes()
    {
        string path = Path.Combine(Path.GetTempPath(), $"migrationops-{Guid.NewGuid():N}.spool");
        _file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None);
        File.Delete(path);
    }

    internal void Append(long offset, ReadOnlySpan<byte> data)
    {
        if (offset != _next)
        {
            _runs.Add((offset, _length));
        }

        RandomAccess.Write(_file, data, _length);
        _length += data.Length;
        _next = offset + data.Length;
    }

    internal override void Read(long offset, Span<byte> destination)
    {
        if (destination.IsEmpty)
        {
            return;
        }

        int low = 0, high = _runs.Count - 1;
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            (low, high) = _runs[middle].StreamOffset <= offset ? (middle, high) : (low, middle - 1);
        }

        if (_runs.Count == 0 || _runs[low].StreamOffset > offset)
        {
            throw Gone(offset);
        }

        long position = _runs[low].SpoolOffset + offset - _runs[low].StreamOffset;
        long end = low + 1 < _runs.Count ? _runs[low + 1].SpoolOffset : _length;
        if (position + destination.Length > end || RandomAccess.Read(_file, destination, position) != destination.Length)
        {
            throw Gone(offset);
        }
    }

    public override void Dispose() => _file.Dispose();
}
