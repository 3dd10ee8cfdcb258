using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>Writes a stream as a waiting QEMU takes it.</summary>
internal static class RehearsalFeed
{
    private const int BufferSize = 256 * 1024;

    /// <summary>Writes the stream as it is.</summary>
    internal static void Write(RehearsalOptions options, StreamContents contents, Stream output, TransferScope scope)
    {
        if (contents.HasCapability(StreamFormat.MappedRamCapability) || contents.Channels.Count > 0)
        {
            throw new RehearsalException(RehearsalError.NotSupported,
                $"'{options.Input.Path}' keeps its memory beside the stream ({(contents.Channels.Count > 0 ? "multifd channels" : "mapped-ram")}).",
                action: "Rehearse it without memory (-SkipMemory).");
        }

        using var source = options.Input.Open(scope);
        byte[] buffer = new byte[BufferSize];
        int count;
        while ((count = source.Input.Read(buffer)) > 0)
        {
            scope.CancellationToken.ThrowIfCancellationRequested();
            output.Write(buffer.AsSpan(0, count));
        }
    }
}
