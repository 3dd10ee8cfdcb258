using System.Text;

namespace MigrationOps.Engine.Devices;

/// <summary>The records in the sections of a directory. Numbers are big-endian; a text is a 16-bit length and UTF-8.</summary>
internal enum TreeRecord : byte
{
    /// <summary>The section's body ends.</summary>
    EndOfBody = 0,

    /// <summary>path, 32-bit mode, 64-bit time of modification in nanoseconds since 1970.</summary>
    Directory = 1,

    /// <summary>path, mode, time, 64-bit size; its content follows, maybe over several sections.</summary>
    File = 2,

    /// <summary>32-bit length, that much of the file's content.</summary>
    Data = 3,

    /// <summary>64-bit length and SHA-256 of the content: the file is complete.</summary>
    FileEnd = 4,

    /// <summary>path, text of the target.</summary>
    Link = 5,

    /// <summary>path, mode, time: the content is what came before.</summary>
    Attributes = 6,

    /// <summary>path: it is gone; a directory is empty by then.</summary>
    Delete = 7,

    /// <summary>64-bit number of entries, 64-bit bytes of all files: the tree is complete.</summary>
    Complete = 8,
}

/// <summary>The numbers of the format, and which names are allowed in it. Never does I/O.</summary>
internal static class TreeFormat
{
    /// <summary>"MODT", the magic of the START section.</summary>
    internal const uint Magic = 0x4d4f4454;

    internal const uint Version = 1;

    internal const int MaxData = 256 << 10;
    internal const int MaxEntries = 1_000_000;
    internal const int HashSize = 32;

    /// <summary>Permissions of owner, group and others, and the sticky bit. Owners do not travel, so set-user-id must not.</summary>
    internal const int ModeMask = 0x3ff;

    private const int MaxPath = 4095;
    private const int MaxName = 255;

    /// <summary>Says why a path must not be used below a root, or null: relative, no empty, "." or ".." in it, no NUL.</summary>
    internal static string? Fault(string path)
        => Encoding.UTF8.GetByteCount(path) > MaxPath ? "it is too long"
            : path.Contains('\0', StringComparison.Ordinal) ? "it has a NUL in it"
            : path.Contains('\uFFFD', StringComparison.Ordinal) ? "it is no UTF-8"
            : path.Split('/').Select(FaultOfName).FirstOrDefault(fault => fault is not null);

    /// <summary>The path of the directory that an entry is in; empty for the root.</summary>
    internal static string ParentOf(string path) => path.LastIndexOf('/') is >= 0 and var end ? path[..end] : "";

    private static string? FaultOfName(string name) => name switch
    {
        "" => "it is absolute, or has an empty name in it",
        "." or ".." => $"it has '{name}' in it",
        _ => Encoding.UTF8.GetByteCount(name) > MaxName ? "a name in it is too long" : null,
    };
}
