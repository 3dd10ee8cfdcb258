using System.Buffers.Binary;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>The folder of a recorded multifd migration. The files' first bytes tell what they are, whatever the recorder called them.</summary>
internal static class StreamArchive
{
    /// <summary>Opens the main stream and the channels, in the order of their names.</summary>
    internal static void Open(string folder, out FileStream main, List<FileStream> channels)
    {
        FileStream? found = null;
        try
        {
            foreach (string path in Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal))
            {
                var file = StreamSource.OpenFile(path);
                var start = new byte[4];
                uint magic = file.ReadAtLeast(start, 4, throwOnEndOfStream: false) < 4 ? 0 : BinaryPrimitives.ReadUInt32BigEndian(start);
                file.Position = 0;
                switch (magic)
                {
                    case ChannelInit.Magic:
                        channels.Add(file);
                        break;
                    case StreamFormat.Magic when found is null:
                        found = file;
                        break;
                    case StreamFormat.Magic:
                        file.Dispose();
                        throw NotAStream(folder, $"has two main streams: '{found.Name}' and '{path}'", null);
                    default:
                        file.Dispose();
                        break;
                }
            }

            main = found ?? throw Refuse(folder, channels.Count);
        }
        catch
        {
            found?.Dispose();
            throw;
        }
    }

    private static StreamException Refuse(string folder, int channels)
    {
        if (File.Exists(Path.Combine(folder, "state.json")) && File.Exists(Path.Combine(folder, "config.json")))
        {
            return NotAStream(folder, "is a snapshot of Cloud Hypervisor (config.json, state.json)", "Restore it with cloud-hypervisor --restore source_url=file://FOLDER; QEMU cannot load it.");
        }

        return channels > 0
            ? NotAStream(folder, $"has {channels} recorded multifd channels and no main stream", "Put the file of the main connection, which starts with QEVM, beside them.")
            : NotAStream(folder, "has no file that is a main migration stream", null);
    }

    private static StreamException NotAStream(string folder, string what, string? action)
        => new(StreamError.NotAStream, $"The folder '{folder}' {what}.", action: action) { Target = folder };
}
