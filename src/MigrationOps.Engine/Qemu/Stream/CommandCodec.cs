using System.Diagnostics.CodeAnalysis;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Reads commands, and holds how long each one's data is.</summary>
internal static class CommandCodec
{
    private const int Any = -1;

    /// <summary>Reads one from its type byte on.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidCommand"/>.</exception>
    internal static bool TryRead(ref WireReader reader, [NotNullWhen(true)] out StreamCommand? command)
    {
        var r = reader;
        command = null;
        if (!r.TryReadByte(out _) || !r.TryReadUInt16(out ushort number) || !r.TryReadUInt16(out ushort length))
        {
            return false;
        }

        var id = (StreamCommandId)number;
        int expected = LengthOf(id, reader.Offset);
        if (expected != Any && length != expected)
        {
            throw WalkContext.Failure(StreamError.InvalidCommand, null, reader.Offset,
                $"Command {id} has {length} bytes of data, expected {expected}");
        }

        if (id == StreamCommandId.PostcopyAdvise && length is not (0 or 16))
        {
            throw WalkContext.Failure(StreamError.InvalidCommand, null, reader.Offset, $"Command {id} has {length} bytes of data, expected 0 or 16");
        }

        if (!r.TryReadBytes(length, out var data))
        {
            return false;
        }

        command = new StreamCommand(id, reader.Offset, data.ToArray());
        reader = r;
        return true;
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
