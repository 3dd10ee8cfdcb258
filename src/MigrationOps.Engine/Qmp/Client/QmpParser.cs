namespace MigrationOps.Engine.Qmp;

/// <summary>
/// Takes the bytes of a monitor apart into messages. It never does I/O: bytes go in as they come, split anywhere, and each
/// call says how many it used.
/// </summary>
internal sealed class QmpParser
{
    /// <summary>The longest message that is accepted. The largest known reply, query-qmp-schema, has about 200 KB.</summary>
    internal const int LongestMessage = 64 << 20;

    private readonly JsonObjectCutter _cutter = new(LongestMessage);

    /// <summary>Bytes that were taken since the start.</summary>
    internal long Offset => _cutter.Offset;

    /// <summary>True between two messages: an end of the stream here cuts nothing in two.</summary>
    internal bool IsBetween => _cutter.IsBetween;

    /// <summary>Takes bytes up to the end of the next message.</summary>
    /// <param name="data">What has arrived and was not used yet.</param>
    /// <param name="message">The message; null if it does not end in these bytes.</param>
    /// <returns>How many bytes were used: all of them if there is no message.</returns>
    /// <exception cref="QmpException"><see cref="QmpError.InvalidMessage"/>, <see cref="QmpError.MessageTooLarge"/>; the stream
    /// cannot be read any further.</exception>
    internal int Parse(ReadOnlySpan<byte> data, out QmpMessage? message)
    {
        int used = _cutter.Take(data, out var value);
        message = value is { } body ? QmpMessage.Read(body) : null;
        return used;
    }
}
