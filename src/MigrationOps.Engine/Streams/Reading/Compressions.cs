namespace MigrationOps.Engine.Streams;

/// <summary>The compressions that libvirt and <c>migrate exec:</c> use, by their first bytes.</summary>
internal static class Compressions
{
    internal const string DamagedAction = "The compressed bytes end early or contradict their format, as the words of the program say: QEMU gets no further than that place. Look whether another copy of the file can be decompressed, or save the VM again.";

    /// <summary>The program that undoes it; null for what is not compressed in one of these ways.</summary>
    internal static string? Of(ReadOnlySpan<byte> start)
    {
        foreach (var (magic, program) in Magics)
        {
            if (start.StartsWith(magic))
            {
                return program;
            }
        }

        // A frame of zstd may come after frames to be skipped.
        return start.Length >= 4 && (start[0] & 0xf0) == 0x50 && start[1..].StartsWith<byte>([0x2a, 0x4d, 0x18]) ? "zstd" : null;
    }

    private static readonly (byte[] Magic, string Program)[] Magics =
    [
        ([0x1f, 0x8b, 0x08], "gzip"),
        ("BZh"u8.ToArray(), "bzip2"),
        ([0xfd, (byte)'7', (byte)'z', (byte)'X', (byte)'Z', 0], "xz"),
        ([0x89, (byte)'L', (byte)'Z', (byte)'O', 0, 0x0d, 0x0a, 0x1a, 0x0a], "lzop"),
        ([0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    ];
}
