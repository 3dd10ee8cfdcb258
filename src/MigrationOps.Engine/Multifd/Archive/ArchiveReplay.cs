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
            (target, openReturnPath) => SendMain(folder, archive, target, openReturnPath, cancellationToken),
            [.. archive.Channels.Select(channel => (Action<Stream>)(target =>
            {
                using var file = MigrationArchive.OpenStream(folder, channel);
                Copy(file, target, cancellationToken);
            }))]);
        return archive.Streams.Sum(s => s.Bytes);
    }

    // The target's word on success comes on the return path. A source without it sent no command to open it; it is put
    // before the first section, where QEMU sends it too.
    private static void SendMain(
        string folder, MigrationArchive archive, Stream target, byte[] openReturnPath, CancellationToken cancellationToken)
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

        target.Write(head.AsSpan(first));
        Copy(file, target, cancellationToken);
    }

    private static void Copy(FileStream source, Stream target, CancellationToken cancellationToken)
    {
        byte[] buffer = new byte[BufferSize];
        int count;
        while ((count = source.Read(buffer)) > 0)
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
