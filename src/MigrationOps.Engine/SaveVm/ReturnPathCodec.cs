using System.Buffers;
using System.Buffers.Binary;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>A message of the return path.</summary>
/// <param name="Type">What it is.</param>
/// <param name="Data">Its data.</param>
internal sealed record ReturnPathMessage(ReturnPathMessageType Type, byte[] Data)
{
    /// <summary>The number in SHUT, PONG and the acknowledgements that carry one.</summary>
    internal uint Value => BinaryPrimitives.ReadUInt32BigEndian(Data);
}

/// <summary>Reads and writes messages of the return path, without I/O.</summary>
internal static class ReturnPathCodec
{
    /// <summary>The longest message: its length has 16 bits.</summary>
    internal const int MaxMessage = 4 + ushort.MaxValue;

    /// <summary>Reads one message; null while bytes are lacking.</summary>
    internal static ReturnPathMessage? TryRead(ref WireReader reader)
    {
        var r = reader;
        if (!r.TryReadUInt16(out ushort type) || !r.TryReadUInt16(out ushort length))
        {
            return null;
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
            throw Invalid(reader.Offset, $"Message {(ReturnPathMessageType)type} on the return path carries {length} bytes where {bytes} belong");
        }

        if (!r.TryReadBytes(length, out var data))
        {
            return null;
        }

        reader = r;
        return new ReturnPathMessage((ReturnPathMessageType)type, data.ToArray());
    }

    /// <summary>Writes a message whose data is one number, or nothing.</summary>
    internal static byte[] Write(ReturnPathMessageType type, uint? value = null)
    {
        Span<byte> data = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(data, value ?? 0);
        return Write(type, data[..(value is null ? 0 : 4)]);
    }

    /// <summary>Writes a message.</summary>
    internal static byte[] Write(ReturnPathMessageType type, ReadOnlySpan<byte> data)
    {
        var output = new ArrayBufferWriter<byte>(4 + data.Length);
        var writer = WireWriter.BigEndian(output);
        writer.WriteUInt16((ushort)type);
        writer.WriteUInt16((ushort)data.Length);
        writer.WriteBytes(data);
        return output.WrittenSpan.ToArray();
    }

    internal static SaveVmException Invalid(long offset, string what)
        => new(SaveVmError.InvalidReturnPath, $"{what}, at byte {offset:N0} of the return path.") { ByteOffset = offset, Section = "return path" };
}
