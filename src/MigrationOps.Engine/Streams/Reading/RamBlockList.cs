using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>Reads the list of RAM blocks from the start of a main stream, and nothing behind it.</summary>
internal static class RamBlockList
{
    /// <summary>The blocks of a stream in a file, a libvirt image, or the folder of an archive.</summary>
    /// <param name="path">The file or folder.</param>
    /// <param name="scope">How long a named pipe may be silent, and cancellation.</param>
    /// <returns>The blocks in the order of the stream; none if the stream ends without any.</returns>
    /// <exception cref="StreamException">The file is not a migration stream.</exception>
    /// <exception cref="WireException">It cannot be read.</exception>
    public static IReadOnlyList<RamBlock> Read(string path, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(scope);
        var collector = new Collector();
        var walker = new StreamWalker(collector);
        byte[] buffer = new byte[384 * 1024];
        int kept = 0;
        using var source = StreamSource.Open(path, offset: 0, snapshot: null, scope);
        if (source.Refusal is { } refusal)
        {
            throw refusal;
        }

        var input = source.Forward ?? new FileInputStream(source.File!);
        while (!collector.IsComplete)
        {
            scope.CancellationToken.ThrowIfCancellationRequested();
            int count = Read(input, source.Name, buffer.AsSpan(kept));
            kept += count;
            int used = walker.Feed(buffer.AsSpan(0, kept), last: count == 0);
            if (count == 0)
            {
                break;
            }

            kept -= used;
            buffer.AsSpan(used, kept).CopyTo(buffer);
        }

        return collector.Blocks;
    }

    private static int Read(Stream input, string name, Span<byte> buffer)
    {
        try
        {
            return input.Read(buffer);
        }
        catch (IOException e)
        {
            throw new WireException(WireError.InputOutput, $"The stream '{name}' cannot be read: {e.Message}", e) { Target = name };
        }
    }

    private sealed class Collector : StreamVisitor
    {
        internal List<RamBlock> Blocks { get; } = [];

        internal bool IsComplete { get; private set; }

        public override void OnRamBlock(RamBlock block) => Blocks.Add(block);

        public override void OnSectionEnd(StreamSection section, long bodyLength)
            => IsComplete |= section.IdStr == "ram";

        public override void OnRamPage(RamBlock block, long pageOffset, RamPageKind kind, ReadOnlySpan<byte> data) => IsComplete = true;
    }
}
