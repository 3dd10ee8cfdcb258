using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// Walks the second channel of postcopy (postcopy-preempt) without I/O: pages of guest memory as RAM sections have them, without sections
/// around them.
/// </summary>
/// <param name="section">The section of the main stream whose pages these are, for errors.</param>
/// <param name="body">Its blocks.</param>
internal sealed class PreemptWalker(StreamSection section, RamBody body) : IByteConsumer
{
    /// <summary>The offset of the next byte.</summary>
    public long Offset { get; private set; }

    /// <inheritdoc/>
    public long PendingSkip => 0;

    /// <inheritdoc/>
    public void Skipped(long count) => throw new NotSupportedException();

    /// <inheritdoc/>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidRam"/>.</exception>
    public int Feed(ReadOnlySpan<byte> data, bool last)
    {
        var reader = WireReader.BigEndian(data, Offset);
        try
        {
            // Its end mark is one of many: the source closes the channel behind the last one.
            while (reader.Remaining > 0 && body.Read(section, ref reader, last))
            {
            }
        }
        finally
        {
            Offset += reader.Position;
        }

        return reader.Position;
    }
}
