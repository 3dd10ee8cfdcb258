using System.Buffers.Binary;

namespace MigrationOps;

/// <summary>
/// The body of one section while its handler writes it: a write-only stream with QEMU's byte order. It ends with the
/// handler's call; a later write is refused and fails the migration.
/// </summary>
public abstract class SaveVmSaveStream : Stream
{
    /// <summary>The offset in the whole migration stream of the next byte.</summary>
    public abstract long StreamOffset { get; }

    /// <summary>Bytes that still fit into this turn's bandwidth; <see cref="long.MaxValue"/> without a limit, never below zero.</summary>
    public abstract long RemainingBudget { get; }

    /// <summary>True when an iteration should stop: the turn's bandwidth or time is used up.</summary>
    public abstract bool BudgetExceeded { get; }

    /// <inheritdoc/>
    public override bool CanRead => false;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => true;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>Writes all bytes of an array.</summary>
    public void WriteBytes(byte[] bytes)
    {
        ArgumentNullException.ThrowIfNull(bytes);
        Write(bytes, 0, bytes.Length);
    }

    /// <summary>Writes 16 bits, most significant byte first.</summary>
    public void WriteUInt16(ushort value)
    {
        Span<byte> bytes = stackalloc byte[2];
        BinaryPrimitives.WriteUInt16BigEndian(bytes, value);
        Write(bytes);
    }

    /// <summary>Writes 32 bits, most significant byte first.</summary>
    public void WriteUInt32(uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, value);
        Write(bytes);
    }

    /// <summary>Writes 64 bits, most significant byte first.</summary>
    public void WriteUInt64(ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        Write(bytes);
    }

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <summary>Does nothing: the driver decides when bytes go out.</summary>
    public override void Flush()
    {
    }
}

/// <summary>
/// The body of one section while its handler reads it. It has no end of its own: the handler knows the length of the
/// body. If the connection ends inside, every read fails with an error that names the section and the byte.
/// </summary>
public abstract class SaveVmLoadStream : Stream
{
    /// <summary>The offset in the whole migration stream of the next byte.</summary>
    public abstract long StreamOffset { get; }

    /// <inheritdoc/>
    public override bool CanRead => true;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => false;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>Reads exactly <paramref name="count"/> bytes into a new array. Check a length from the stream before asking for it.</summary>
    public byte[] ReadBytes(int count)
    {
        byte[] bytes = new byte[count];
        ReadExactly(bytes);
        return bytes;
    }

    /// <summary>Reads 16 bits, most significant byte first.</summary>
    public ushort ReadUInt16()
    {
        Span<byte> bytes = stackalloc byte[2];
        ReadExactly(bytes);
        return BinaryPrimitives.ReadUInt16BigEndian(bytes);
    }

    /// <summary>Reads 32 bits, most significant byte first.</summary>
    public uint ReadUInt32()
    {
        Span<byte> bytes = stackalloc byte[4];
        ReadExactly(bytes);
        return BinaryPrimitives.ReadUInt32BigEndian(bytes);
    }

    /// <summary>Reads 64 bits, most significant byte first.</summary>
    public ulong ReadUInt64()
    {
        Span<byte> bytes = stackalloc byte[8];
        ReadExactly(bytes);
        return BinaryPrimitives.ReadUInt64BigEndian(bytes);
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void Flush()
    {
    }
}
