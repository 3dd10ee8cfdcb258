using System.Diagnostics;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>Sends an archived migration to a target, as its source had sent it.</summary>
internal static class ArchiveReplay
{
    private const int BufferSize = 512 * 1024;

    /// <summary>Sends the archive.</summary>
    /// <param name="folder">The archive's folder.</param>
    /// <param name="endpoint">The target.</param>
    /// <param name="security">TLS, or plain text.</param>
    /// <param name="verified">True if the archive has been verified whole; it is only said in the result.</param>
    /// <param name="scope">The bounds of the whole transfer.</param>
    /// <returns>What was sent, after the target said that it has everything.</returns>
    /// <exception cref="MultifdException">The archive is damaged, or the target did not load it.</exception>
    public static MigrationReplay Send(string folder, Endpoint endpoint, TransportSecurity security, bool verified, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        ArgumentNullException.ThrowIfNull(scope);
        var archive = MigrationArchive.Read(folder);
        long start = Stopwatch.GetTimestamp();
        using var sender = new MigrationSender(endpoint, security, scope);
        sender.Send(
            (target, openReturnPath) => SendMain(folder, archive, target, openReturnPath, sender.CheckChannels, scope.CancellationToken),
            [.. archive.Channels.Select(channel => (Action<Stream>)(target =>
            {
                using var file = MigrationArchive.OpenStream(folder, channel);
                Copy(file, target, file.Length, scope.CancellationToken);
            }))]);
        long bytes = archive.Streams.Sum(s => s.Bytes);
        var duration = Stopwatch.GetElapsedTime(start);
        TransferMetrics.Record("vfio-multifd", "replay", bytes, duration);
        return new MigrationReplay
        {
            Archive = folder,
            Peer = endpoint.ToString(),
            Machine = archive.Machine,
            Channels = archive.Channels.Count(),
            Devices = [.. archive.Devices.Select(d => d.IdStr)],
            Bytes = bytes,
            Verified = verified,
            Duration = duration,
        };
    }

    // The target's word on success comes on the return path. A source without it sent no command to open it; it is put
    // before the first section, where QEMU sends it too.
    private static void SendMain(
        string folder, MigrationArchive archive, Stream target, byte[] openReturnPath, Action checkChannels, CancellationToken cancellationToken)
    {
        using var file = MigrationArchive.OpenStream(folder, archive.Streams.Single(s => s.Channel is null));
        byte[] head = new byte[(int)Math.Min(file.Length, 64 * 1024)];
        file.ReadExactly(head);
        var start = new FirstElement();
        new StreamWalker(start).Feed(head);
        int first = (int)(start.Offset ?? throw new MultifdException(MultifdError.ArchiveInvalid,
            $"The main stream of the archive '{folder}' has no section within its first {head.Length:N0} bytes.")
        { Target = folder });
        target.Write(head.AsSpan(0, first));
        if (!head.AsSpan(first).StartsWith(openReturnPath))
        {
            target.Write(openReturnPath);
        }

        // The last byte stays here until the channels are known to have been taken.
        long rest = file.Length - head.Length - 1;
        target.Write(head.AsSpan(first, head.Length - first - (rest < 0 ? 1 : 0)));
        Copy(file, target, rest, cancellationToken);
        checkChannels();
        Span<byte> last = [head[^1]];
        if (rest >= 0)
        {
            file.ReadExactly(last);
        }

        target.Write(last);
    }

    private static void Copy(FileStream source, Stream target, long length, CancellationToken cancellationToken)
    {
        byte[] buffer = new byte[BufferSize];
        int count;
        for (; length > 0 && (count = source.Read(buffer.AsSpan(0, (int)Math.Min(buffer.Length, length)))) > 0; length -= count)
        {
            cancellationToken.ThrowIfCancellationRequested();
            target.Write(buffer.AsSpan(0, count));
        }
    }

    // Where the first command or section starts.
    private sealed class FirstElement : StreamVisitor
    {
        internal long? Offset { get; private set; }

        public override void OnSectionStart(StreamSection section) => Offset ??= section.Offset;

        public override void OnCommand(StreamCommand command) => Offset ??= command.Offset;

        public override void OnEof(long offset) => Offset ??= offset;
    }
}
