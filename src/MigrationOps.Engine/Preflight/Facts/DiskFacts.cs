using System.Text.Json;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Engine.Preflight;

/// <summary>A disk of a VM: the device and what it reads and writes.</summary>
/// <param name="Device">The path of the device in QEMU's object model, or the name of its drive.</param>
/// <param name="Node">The name of its block node.</param>
/// <param name="File">The name of its image as QEMU has it; empty if it is no file.</param>
/// <param name="VirtualBytes">What the guest sees.</param>
/// <param name="IsReadOnly">True if the guest cannot write to it.</param>
/// <param name="IsDirect">True if the host's page cache is passed by (cache.direct); null if it is not told.</param>
internal sealed record DiskFacts(string Device, string Node, string File, long? VirtualBytes, bool IsReadOnly, bool? IsDirect)
{
    /// <summary>The disks that have a medium.</summary>
    internal static IReadOnlyList<DiskFacts> Of(QemuFacts qemu) => [.. (qemu["query-block"]?.Items() ?? []).Where(block => block.Member("inserted") is not null).Select(Read)];

    private static DiskFacts Read(JsonElement block)
    {
        var inserted = block.Member("inserted")!.Value;
        var image = inserted.Member("image") ?? default;
        string file = image.Text("filename") ?? inserted.Text("file") ?? "";
        return new DiskFacts(block.Text("qdev") ?? block.Text("device") ?? "", inserted.Text("node-name") ?? "", file, image.Number("virtual-size"), inserted.Flag("ro") == true, inserted.Member("cache")?.Flag("direct"));
    }
}

/// <summary>A file that a process has open, as the kernel knows it.</summary>
/// <param name="Device">The number of the file system.</param>
/// <param name="Inode">The number of the file in it.</param>
/// <param name="Size">Its size, in bytes.</param>
/// <param name="FileSystem">What the kernel calls the file system; null if it is not known.</param>
internal sealed record FileFacts(ulong Device, ulong Inode, long Size, string? FileSystem = null)
{
    /// <summary>The images that a process of this host has open, by the names that QEMU has for them.</summary>
    internal static IReadOnlyDictionary<string, FileFacts> Of(ProcessFacts? process, IEnumerable<string> names)
    {
        var found = new Dictionary<string, FileFacts>(StringComparer.Ordinal);
        if (process is null)
        {
            return found;
        }

        foreach (string name in names.Where(name => name.Length > 0 && !name.Contains(':', StringComparison.Ordinal)).Distinct())
        {
            // By the process's own root and folder: in a container the name means another file than here.
            string path = name.StartsWith('/') ? $"/proc/{process.Id}/root{name}" : $"/proc/{process.Id}/cwd/{name}";
            try
            {
                string target = new FileInfo(path).ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? path;
                if (PathStatus.TryOf(target) is { } status)
                {
                    found[name] = new FileFacts(status.Device, status.Inode, status.Size, new DriveInfo(target).DriveFormat);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or Wire.WireException)
            {
                // Then nothing is known of it, and the check says so.
            }
        }

        return found;
    }
}
