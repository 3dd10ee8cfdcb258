using System.Buffers.Binary;

namespace MigrationOps.Engine.Wire;

/// <summary>
/// Reads integers and bytes from a span, in either byte order. It never does I/O: a Try method that lacks bytes returns
/// false and consumes nothing; the others throw <see cref="WireError.UnexpectedEnd"/> with the offset.
/// </summary>
internal ref struct WireReader
{
    private readonly ReadOnlySpan<byte> _data;
    private readonly bool _bigEndian;
    private readonly long _base;
    private int _position;

    private WireReader(ReadOnlySpan<byte> data, bool bigEndian, long baseOffset, string? source = null)
    {
        Source = source;
        _data = data;
        _bigEndian = bigEndian;
        _base = baseOffset;
    }

    /// <summary>A reader of network byte order, as QEMU's streams have.</summary>
    /// <param name="data">The bytes; not copied.</param>
    /// <param name="baseOffset">Where the bytes lie in their stream, for error messages.</param>
    /// <param name="source">What errors call the stream, such as "channel 3"; null if there is only one.</param>
    public static WireReader BigEndian(ReadOnlySpan<byte> data, long baseOffset = 0, string? source = null) => new(data, true, baseOffset, source);

    /// <summary>A reader of little-endian integers, as vhost-user on x86 and the VFIO packets' host words have.</summary>
    /// <param name="data">The bytes; not copied.</param>
    /// <param name="baseOffset">Where the bytes lie in their stream, for error messages.</param>
    public static WireReader LittleEndian(ReadOnlySpan<byte> data, long baseOffset = 0) => new(data, false, baseOffset);

    /// <summary>What errors call the stream.</summary>
    public string? Source { get; }

    /// <summary>How many bytes have been consumed.</summary>
    public readonly int Position => _position;

    /// <summary>The offset in the stream of the next byte.</summary>
    public readonly long Offset => _base + _position;

    /// <summary>How many bytes are left.</summary>
    public readonly int Remaining => _data.Length - _position;

    /// <summary>The bytes that are left.</summary>
    public readonly ReadOnlySpan<byte> Rest => _data[_position..];

    /// <summary>Reads one byte, or false at the end.</summary>
    public bool TryReadByte(out byte value)
    {
        bool ok = TryReadBytes(1, out var bytes);
        value = ok ? bytes[0] : default;
        return ok;
    }

    /// <summary>Reads 16 bits, or false if fewer are left.</summary>
    public bool TryReadUInt16(out ushort value)
    {
        bool ok = TryReadBytes(2, out var b);
        value = !ok ? default
            : _bigEndian ? BinaryPrimitives.ReadUInt16BigEndian(b) : BinaryPrimitives.ReadUInt16LittleEndian(b);
        return ok;
    }

    /// <summary>Reads 32 bits, or false if fewer are left.</summary>
    public bool TryReadUInt32(out uint value)
    {
        bool ok = TryReadBytes(4, out var b);
        value = !ok ? default
            : _bigEndian ? BinaryPrimitives.ReadUInt32BigEndian(b) : BinaryPrimitives.ReadUInt32LittleEndian(b);
        return ok;
    }

    /// <summary>Reads 64 bits, or false if fewer are left.</summary>
    public bool TryReadUInt64(out ulong value)
    {
        bool ok = TryReadBytes(8, out var b);
        value = !ok ? default
            : _bigEndian ? BinaryPrimitives.ReadUInt64BigEndian(b) : BinaryPrimitives.ReadUInt64LittleEndian(b);
        return ok;
    }

    /// <summary>Takes <paramref name="count"/> bytes without copying them, or false if fewer are left.</summary>
    public bool TryReadBytes(int count, out ReadOnlySpan<byte> bytes)
    {
        if (count < 0 || count > Remaining)
        {
            bytes = default;
            return false;
        }

        bytes = _data.Slice(_position, count);
        _position += count;
        return true;
    }

    /// <summary>Reads one byte.</summary>
    public byte ReadByte(string what) => TryReadByte(out byte value) ? value : throw End(what, 1);

    /// <summary>Reads an unsigned 16-bit integer.</summary>
    public ushort ReadUInt16(string what) => TryReadUInt16(out ushort value) ? value : throw End(what, 2);

    /// <summary>Reads an unsigned 32-bit integer.</summary>
    public uint ReadUInt32(string what) => TryReadUInt32(out uint value) ? value : throw End(what, 4);

    /// <summary>Reads a signed 32-bit integer.</summary>
    public int ReadInt32(string what) => unchecked((int)ReadUInt32(what));

    /// <summary>Reads an unsigned 64-bit integer.</summary>
    public ulong ReadUInt64(string what) => TryReadUInt64(out ulong value) ? value : throw End(what, 8);

    /// <summary>Takes <paramref name="count"/> bytes without copying them.</summary>
    public ReadOnlySpan<byte> ReadBytes(int count, string what)
        => TryReadBytes(count, out var bytes) ? bytes : throw End(what, count);

    private readonly WireException End(string what, int needed)
        => new(WireError.UnexpectedEnd,
            $"The data ends inside {what} at byte {Offset:N0}: {needed} bytes are needed, {Remaining} are left.")
        { ByteOffset = Offset, Section = what };
}
