using System.Buffers;
using System.Buffers.Binary;

namespace MigrationOps.Engine.Wire;

/// <summary>
/// Writes integers and bytes in either byte order into a buffer writer, such as <see cref="ArrayBufferWriter{T}"/>.
/// It never does I/O.
/// </summary>
internal readonly ref struct WireWriter
{
    private readonly IBufferWriter<byte> _output;
    private readonly bool _bigEndian;

    private WireWriter(IBufferWriter<byte> output, bool bigEndian)
    {
        _output = output;
        _bigEndian = bigEndian;
    }

    /// <summary>A writer of network byte order.</summary>
    public static WireWriter BigEndian(IBufferWriter<byte> output) => new(output, true);

    /// <summary>A writer of little-endian integers.</summary>
    public static WireWriter LittleEndian(IBufferWriter<byte> output) => new(output, false);

    /// <summary>Writes one byte.</summary>
    public void WriteByte(byte value)
    {
        _output.GetSpan(1)[0] = value;
        _output.Advance(1);
    }

    /// <summary>Writes an unsigned 16-bit integer.</summary>
    public void WriteUInt16(ushort value)
    {
        var span = _output.GetSpan(2);
        if (_bigEndian)
        {
            BinaryPrimitives.WriteUInt16BigEndian(span, value);
        }
        else
        {
            BinaryPrimitives.WriteUInt16LittleEndian(span, value);
        }

        _output.Advance(2);
    }

    /// <summary>Writes an unsigned 32-bit integer.</summary>
    public void WriteUInt32(uint value)
    {
        var span = _output.GetSpan(4);
        if (_bigEndian)
        {
            BinaryPrimitives.WriteUInt32BigEndian(span, value);
        }
        else
        {
            BinaryPrimitives.WriteUInt32LittleEndian(span, value);
        }

        _output.Advance(4);
    }

    /// <summary>Writes a signed 32-bit integer.</summary>
    public void WriteInt32(int value) => WriteUInt32(unchecked((uint)value));

    /// <summary>Writes an unsigned 64-bit integer.</summary>
    public void WriteUInt64(ulong value)
    {
        var span = _output.GetSpan(8);
        if (_bigEndian)
        {
            BinaryPrimitives.WriteUInt64BigEndian(span, value);
        }
        else
        {
            BinaryPrimitives.WriteUInt64LittleEndian(span, value);
        }

        _output.Advance(8);
    }

    /// <summary>Writes the bytes as they are.</summary>
    public void WriteBytes(ReadOnlySpan<byte> bytes) => _output.Write(bytes);
}
