namespace MigrationOps.Engine.Multifd;

/// <summary>Sends an archived migration to a target, as its source had sent it.</summary>
public static class ArchiveReplay
{
    private const int BufferSize = 512 * 1024;

    /// <summary>Sends the archive.</summary>
    /// <param name="folder">The archive's folder.</param>
    /// <param name="archive">Its index, which has been checked.</param>
    /// <param name="sender">The target.</param>
    /// <param name="cancellationToken">Ends the reading of files.</param>
    /// <returns>Bytes sent.</returns>
    public static long Send(string folder, MigrationArchive archive, MigrationSender sender, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(archive);
        ArgumentNullException.ThrowIfNull(sender);
        sender.Send(
            (target, openReturnPath) => SendMain(folder, archive, target, openReturnPath, sender.CheckChannels, cancellationToken),
            [.. archive.Channels.Select(channel => (Action<Stream>)(target =>
            {
                using var file = MigrationArchive.OpenStream(folder, channel);
                Copy(file, target, file.Length, cancellationToken);
            }))]);
        return archive.Streams.Sum(s => s.Bytes);
    }

    // The target's word on success comes on the return path. A source without it sent no command to open it; it is put
    // before the first section, where QEMU sends it too.
    private static void SendMain(
        string folder, MigrationArchive archive, Stream target, byte[] openReturnPath, Action checkChannels, CancellationToken cancellationToken)
    {
        using var file = MigrationArchive.OpenStream(folder, archive.Streams.Single(s => s.Channel is null));
        var parser = new MainStreamParser(new Deaf(), archive.PageSize);
        byte[] head = new byte[(int)Math.Min(file.Length, 64 * 1024)];
        file.ReadExactly(head);
        for (int used = 0; parser.FirstSectionOffset is null && used < head.Length;)
        {
            int count = parser.Parse(head.AsSpan(used));
            used += count;
            if (count == 0)
            {
                break;
            }
        }

        int first = (int)(parser.FirstSectionOffset ?? throw new MultifdException(MultifdError.ArchiveInvalid,
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

    private sealed class Deaf : IMainStreamObserver
    {
        public ISectionBody? OpenSection(SectionInfo section) => null;

        public void ReturnPathOpened()
        {
        }

        public void Ping(uint value)
        {
        }

        public void Flushed()
        {
        }

        public void SwitchedOver()
        {
        }
    }
}
