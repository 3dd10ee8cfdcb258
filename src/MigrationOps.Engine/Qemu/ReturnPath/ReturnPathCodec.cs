using System.Buffers;
using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>The messages of the return path.</summary>
internal enum ReturnPathMessageType : ushort
{
    /// <summary>The target has ended: 0 is success.</summary>
    Shut = 1,

    /// <summary>The answer to PING.</summary>
    Pong = 2,

    /// <summary>Asks for pages of a block that it names.</summary>
    RequestPagesWithId = 3,

    /// <summary>Asks for pages of the block of the message before.</summary>
    RequestPages = 4,

    /// <summary>Names a block; the bitmap of its received pages follows.</summary>
    ReceivedBitmap = 5,

    /// <summary>A paused migration resumes.</summary>
    ResumeAck = 6,

    /// <summary>The initial data of a device, or of all, has been loaded.</summary>
    SwitchoverAck = 7,
}

/// <summary>A message of the return path.</summary>
internal sealed record ReturnPathMessage
{
    /// <summary>A message with any data.</summary>
    internal ReturnPathMessage(ReturnPathMessageType type, byte[] data) => (Type, Data) = (type, data);

    /// <summary>A message without data.</summary>
    internal ReturnPathMessage(ReturnPathMessageType type)
        : this(type, [])
    {
    }

    /// <summary>A message whose data is a number: SHUT, PONG and RESUME_ACK.</summary>
    internal ReturnPathMessage(ReturnPathMessageType type, uint value)
        : this(type, new byte[sizeof(uint)])
        => BinaryPrimitives.WriteUInt32BigEndian(Data, value);

    /// <summary>What it is.</summary>
    internal ReturnPathMessageType Type { get; }

    /// <summary>Its data.</summary>
    internal byte[] Data { get; }

    /// <summary>The number in SHUT, PONG and RESUME_ACK; 0 in messages without one.</summary>
    internal uint Value => Data.Length == sizeof(uint) ? BinaryPrimitives.ReadUInt32BigEndian(Data) : 0;

    /// <inheritdoc/>
    public bool Equals(ReturnPathMessage? other) => other is not null && Type == other.Type && Data.AsSpan().SequenceEqual(other.Data);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Type, Data.Length);

    /// <summary>The type and the data, for errors and logs.</summary>
    public override string ToString() => $"{Type} {Convert.ToHexStringLower(Data)}";

    /// <summary>The message's bytes.</summary>
    internal byte[] ToArray()
    {
        var output = new ArrayBufferWriter<byte>(ReturnPathCodec.HeaderSize + Data.Length);
        var writer = WireWriter.BigEndian(output);
        writer.WriteUInt16((ushort)Type);
        writer.WriteUInt16((ushort)Data.Length);
        writer.WriteBytes(Data);
        return output.WrittenSpan.ToArray();
    }
}

/// <summary>Reads messages of the return path.</summary>
internal static class ReturnPathCodec
{
    /// <summary>Bytes of a message before its data.</summary>
    internal const int HeaderSize = 4;

    /// <summary>The most data of a message: a QEMU source gives up its migration at one byte more.</summary>
    internal const int MaxData = 512;

    /// <summary>The longest message.</summary>
    internal const int MaxMessage = HeaderSize + MaxData;

    /// <summary>Reads one message.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidReturnPath"/>.</exception>
    internal static bool TryRead(ref WireReader reader, [NotNullWhen(true)] out ReturnPathMessage? message)
    {
        var r = reader;
        message = null;
        if (!r.TryReadUInt16(out ushort type) || !r.TryReadUInt16(out ushort length))
        {
            return false;
        }

        int? expected = (ReturnPathMessageType)type switch
        {
            ReturnPathMessageType.Shut or ReturnPathMessageType.Pong or ReturnPathMessageType.ResumeAck => 4,
            ReturnPathMessageType.SwitchoverAck => 0,
            ReturnPathMessageType.RequestPages => 12,
            ReturnPathMessageType.RequestPagesWithId or ReturnPathMessageType.ReceivedBitmap => null,
            _ => throw Invalid(reader.Offset, $"Message {type} on the return path is unknown"),
        };
        if (expected is { } bytes && length != bytes)
        {
            throw Invalid(reader.Offset, $"Message {(ReturnPathMessageType)type} on the return path has {length} bytes of data, expected {bytes}");
        }

        if (length > MaxData)
        {
            throw Invalid(reader.Offset, $"Message {(ReturnPathMessageType)type} on the return path has {length:N0} bytes of data, expected {MaxData} at most");
        }

        if (!r.TryReadBytes(length, out var data))
        {
            return false;
        }

        reader = r;
        message = new ReturnPathMessage((ReturnPathMessageType)type, data.ToArray());
        return true;
    }

    internal static StreamException Invalid(long offset, string what)
        => new(StreamError.InvalidReturnPath, $"{what}, at byte {offset:N0} of the return path.") { ByteOffset = offset, Section = "return path" };
}
