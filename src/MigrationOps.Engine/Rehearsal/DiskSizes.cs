using System.Globalization;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>
/// Finds how large the disks of a command line are, without opening them for writing or locking them. A size matters where a
/// device shows it: to firmware flash it is the length of a RAM block.
/// </summary>
internal sealed class DiskSizes(List<QemuOption> options, string workingDirectory, List<string> notes)
{
    /// <summary>What a disk has whose size cannot be found here.</summary>
    internal const long Unknown = 1L << 30;

    private const int MostNodes = 1000;

    private readonly Dictionary<string, OptionProperties> _nodes = FindNodes(options);

    /// <summary>The bytes that a <c>-drive</c> shows to its device.</summary>
    internal long SizeOfDrive(OptionProperties drive)
        => drive["size"] is { } given && ParseSize(given) is { } size ? size
            : SizeOfFile(drive["file"] ?? drive["file.filename"] ?? "", drive["format"] ?? drive["driver"], drive);

    /// <summary>The bytes that a <c>-blockdev</c> node shows.</summary>
    internal long SizeOfNode(OptionProperties node)
    {
        var at = node;
        string? format = node["driver"];
        for (int i = 0; i < MostNodes; i++)
        {
            if (at["size"] is { } given && ParseSize(given) is { } size)
            {
                return size;
            }

            if ((at["filename"] ?? at["file.filename"]) is { } path)
            {
                return SizeOfFile(path, format, at);
            }

            if (at["file"] is not { } next || !_nodes.TryGetValue(next, out var inner))
            {
                break;
            }

            at = inner;
        }

        notes.Add($"The size of the disk '{node["node-name"]}' is not known here; the rehearsal has {Unknown:N0} bytes.");
        return Unknown;
    }

    private static Dictionary<string, OptionProperties> FindNodes(List<QemuOption> options)
    {
        var nodes = new Dictionary<string, OptionProperties>();
        foreach (var option in options.Where(o => o.Name == "blockdev"))
        {
            var node = OptionProperties.Parse(option.Value!, "driver");
            nodes[node["node-name"] ?? ""] = node;
        }

        return nodes;
    }

    private long SizeOfFile(string path, string? format, OptionProperties drive)
    {
        string full = Path.Combine(workingDirectory, path.StartsWith("file:", StringComparison.Ordinal) ? path[5..] : path);
        try
        {
            using var file = new FileStream(full, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
            byte[] start = new byte[Qcow2Header.Length];
            int got = file.ReadAtLeast(start, start.Length, throwOnEndOfStream: false);
            var reader = WireReader.BigEndian(start.AsSpan(0, got));
            if (format is not ("raw" or "file" or "host_device") && Qcow2Header.IsMagic(start) && Qcow2Header.TryRead(ref reader, out var header))
            {
                return (long)header!.DiskSize;
            }

            if (drive["offset"] is null && format is null or "raw" or "file" or "host_device" or "host_cdrom")
            {
                // The end of a block device is found by seeking.
                return file.Seek(0, SeekOrigin.End);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException or StreamException)
        {
            notes.Add($"The disk '{path}' cannot be looked at here ({e.Message}); the rehearsal has {Unknown:N0} bytes.");
            return Unknown;
        }

        notes.Add($"The size of the disk '{path}' ({format}) is not known here; the rehearsal has {Unknown:N0} bytes.");
        return Unknown;
    }

    private static long? ParseSize(string text)
    {
        int shift = text.Length == 0 ? 0 : char.ToUpperInvariant(text[^1]) switch { 'K' => 10, 'M' => 20, 'G' => 30, 'T' => 40, _ => 0 };
        return long.TryParse(shift > 0 ? text[..^1] : text, NumberStyles.None, CultureInfo.InvariantCulture, out long number) ? number << shift : null;
    }
}
