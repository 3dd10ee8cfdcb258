using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>Gives bytes that were read too early once more, then the rest.</summary>
internal sealed class PrefixedStream(byte[] prefix, Stream rest) : ForwardStream
{
    private int _given;

    public override int Read(Span<byte> buffer)
    {
        if (_given == prefix.Length)
        {
            return rest.Read(buffer);
        }

        int count = Math.Min(buffer.Length, prefix.Length - _given);
        prefix.AsSpan(_given, count).CopyTo(buffer);
        _given += count;
        return count;
    }
}

/// <summary>A file from its start on, for what can only read forward.</summary>
internal sealed class FileInputStream(FileInput file) : ForwardStream
{
    private long _position;

    public override int Read(Span<byte> buffer)
    {
        int count = file.Read(_position, buffer);
        _position += count;
        return count;
    }
}
