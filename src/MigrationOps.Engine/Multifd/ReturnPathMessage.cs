using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>What a target tells its source on the return path of the main channel.</summary>
public enum ReturnPathType : ushort
{
    /// <summary>No message.</summary>
    Invalid = 0,

    /// <summary>The target has ended: 0 is success.</summary>
    Shut = 1,

    /// <summary>The answer to PING.</summary>
    Pong = 2,

    /// <summary>The initial data of every device has been loaded.</summary>
    SwitchoverAcknowledged = 7,
}

/// <summary>One message of the return path.</summary>
/// <param name="Type">What it says; numbers beyond the named ones belong to postcopy.</param>
/// <param name="Value">The value of PONG and SHUT, else 0.</param>
public readonly record struct ReturnPathMessage(ReturnPathType Type, uint Value = 0)
{
    private const int HeaderSize = 4;
    private const int LargestBody = 512;

    /// <summary>Reads one message.</summary>
    /// <param name="data">Bytes from its start.</param>
    /// <param name="message">The message.</param>
    /// <param name="offset">Where it starts in the return path.</param>
    /// <returns>Bytes used; 0 if more are needed.</returns>
    public static int Parse(ReadOnlySpan<byte> data, out ReturnPathMessage message, long offset)
    {
        message = default;
        var reader = WireReader.BigEndian(data);
        if (!reader.TryReadUInt16(out ushort type) || !reader.TryReadUInt16(out ushort length))
        {
            return 0;
        }

        if (length > LargestBody || ((ReturnPathType)type is ReturnPathType.Shut or ReturnPathType.Pong && length != 4))
        {
            throw MultifdException.At(MultifdError.MainStreamInvalid, "return path", offset,
                $"a message of type {type} has {length} bytes");
        }

        if (!reader.TryReadBytes(length, out var body))
        {
            return 0;
        }

        message = new((ReturnPathType)type, length == 4 ? WireReader.BigEndian(body).ReadUInt32("value") : 0);
        return HeaderSize + length;
    }

    /// <summary>The message's bytes.</summary>
    public byte[] ToArray()
    {
        var output = new System.Buffers.ArrayBufferWriter<byte>(8);
        var writer = WireWriter.BigEndian(output);
        bool hasValue = Type is ReturnPathType.Shut or ReturnPathType.Pong;
        writer.WriteUInt16((ushort)Type);
        writer.WriteUInt16(hasValue ? (ushort)4 : (ushort)0);
        if (hasValue)
        {
            writer.WriteUInt32(Value);
        }

        return output.WrittenSpan.ToArray();
    }
}
