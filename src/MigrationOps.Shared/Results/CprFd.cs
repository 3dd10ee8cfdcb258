namespace MigrationOps;

/// <summary>What a descriptor refers to.</summary>
public enum CprFdKind
{
    /// <summary>Something that has no name here.</summary>
    Other,

    /// <summary>Anonymous memory made by memfd_create(2): guest RAM.</summary>
    MemFd,

    /// <summary>A regular file.</summary>
    File,

    /// <summary>A directory.</summary>
    Directory,

    /// <summary>A block device.</summary>
    BlockDevice,

    /// <summary>A character device, such as /dev/vfio/12 or /dev/net/tun.</summary>
    CharacterDevice,

    /// <summary>A socket.</summary>
    Socket,

    /// <summary>A pipe or FIFO.</summary>
    Pipe,

    /// <summary>An event counter: an interrupt of a device.</summary>
    EventFd,

    /// <summary>An object of the kernel without a file, such as a VFIO device or a KVM machine.</summary>
    AnonymousInode,
}

/// <summary>An entry of a CPR set: a name, an id, and what the descriptor is.</summary>
public sealed record CprFd
{
    /// <summary>The name; bytes that are not printable UTF-8 are shown as <c>\xNN</c>.</summary>
    public string Name { get; init; } = "";

    /// <summary>The id, which together with the name is the entry's key.</summary>
    public int Id { get; init; }

    /// <summary>The number of the descriptor in this process; -1 in a description without descriptors.</summary>
    public int Fd { get; init; } = -1;

    /// <summary>What it refers to.</summary>
    public CprFdKind Kind { get; init; }

    /// <summary>Its size in bytes; 0 for what has none.</summary>
    public long Size { get; init; }

    /// <summary>Where /proc says that it leads.</summary>
    public string Target { get; init; } = "";

    /// <summary>Read, Write or ReadWrite.</summary>
    public FileAccess Access { get; init; }

    /// <summary>The flags it was opened with, beside the access: APPEND, NONBLOCK, LARGEFILE …</summary>
    public string[] Flags { get; init; } = [];

    /// <summary>The seals of memory: SEAL, SHRINK, GROW, WRITE, FUTURE_WRITE, EXEC.</summary>
    public string[] Seals { get; init; } = [];

    /// <summary>Number of the file system of the object; with <see cref="Inode"/> it tells whether two descriptors lead
    /// to the same thing.</summary>
    public long Device { get; init; }

    /// <summary>Number of the object within its file system.</summary>
    public long Inode { get; init; }

    /// <summary>True if it came from a peer, false if it was registered here.</summary>
    public bool Received { get; init; }
}
