using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Reads commands, and holds how long each one's data is.</summary>
internal static class CommandCodec
{
    private const int Any = -1;

    /// <summary>Reads one from its type byte on; null while bytes are lacking.</summary>
    internal static StreamCommand? TryRead(ref WireReader reader)
    {
        long offset = reader.Offset;
        if (!reader.TryReadByte(out _) || !reader.TryReadUInt16(out ushort number) || !reader.TryReadUInt16(out ushort length))
        {
            return null;
        }

        var id = (StreamCommandId)number;
        int expected = LengthOf(id, offset);
        if (expected != Any && length != expected)
        {
            throw WalkContext.Failure(StreamError.InvalidCommand, null, offset,
                $"Command {id} carries {length} bytes where {expected} belong");
        }

        if (id == StreamCommandId.PostcopyAdvise && length is not (0 or 16))
        {
            throw WalkContext.Failure(StreamError.InvalidCommand, null, offset, $"Command {id} carries {length} bytes where 0 or 16 belong");
        }

        return reader.TryReadBytes(length, out var data) ? new StreamCommand(id, offset, data.ToArray()) : null;
    }

    /// <summary>True if a footer may be followed by these bytes as a command.</summary>
    internal static bool IsPlausible(ushort number, ushort length)
        => number is >= 1 and <= 11 && ((StreamCommandId)number switch
        {
            StreamCommandId.PostcopyAdvise => length is 0 or 16,
            var id => LengthOf(id, 0) is var expected && (expected == Any || expected == length),
        });

    private static int LengthOf(StreamCommandId id, long offset) => id switch
    {
        StreamCommandId.OpenReturnPath or StreamCommandId.PostcopyListen or StreamCommandId.PostcopyRun or StreamCommandId.EnableColo
            or StreamCommandId.PostcopyResume or StreamCommandId.SwitchoverStart => 0,
        StreamCommandId.Ping or StreamCommandId.Packaged => 4,
        StreamCommandId.PostcopyAdvise or StreamCommandId.PostcopyRamDiscard or StreamCommandId.ReceivedBitmap => Any,
        _ => throw WalkContext.Failure(StreamError.InvalidCommand, null, offset, $"Command {(int)id} is unknown"),
    };
}
