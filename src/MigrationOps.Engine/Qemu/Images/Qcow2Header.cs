using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>
/// The header of a qcow2 image, as far as a snapshot's VM state needs it. Source: QEMU's docs/interop/qcow2.rst.
/// </summary>
/// <param name="Version">2 or 3.</param>
/// <param name="ClusterBits">log2 of the cluster size, 9 to 21.</param>
/// <param name="DiskSize">Size of the disk in bytes, as it is now.</param>
/// <param name="CryptMethod">0 none, 1 AES, 2 LUKS.</param>
/// <param name="SnapshotCount">Entries in the snapshot table.</param>
/// <param name="SnapshotsOffset">Where the snapshot table lies.</param>
/// <param name="Features">The incompatible features; 0 in version 2.</param>
internal sealed record Qcow2Header(
    int Version, int ClusterBits, ulong DiskSize, uint CryptMethod, int SnapshotCount, long SnapshotsOffset, ulong Features)
{
    internal const int Length = 80;
    internal const uint Magic = 0x514649fb;

    /// <summary>The most snapshots that QEMU allows in an image.</summary>
    internal const int MaxSnapshots = 65536;

    private const int Version2Length = 72;
    private const ulong ExternalDataFile = 1 << 2;
    private const ulong ExtendedL2 = 1 << 4;

    // Dirty, corrupt, external data file, compression type, extended L2.
    private const ulong KnownFeatures = 0b11111;

    internal int ClusterSize => 1 << ClusterBits;

    internal bool HasExtendedL2 => (Features & ExtendedL2) != 0;

    /// <summary>Bytes of an entry of an L2 table.</summary>
    internal int EntrySize => HasExtendedL2 ? Qcow2Entry.ExtendedSize : Qcow2Entry.Size;

    /// <summary>Bytes of the disk that one L1 entry covers.</summary>
    internal long BytesPerL1Entry => (long)ClusterSize * (ClusterSize / EntrySize);

    /// <summary>True if the bytes begin as a qcow2 image does.</summary>
    internal static bool IsMagic(ReadOnlySpan<byte> start)
    {
        var reader = WireReader.BigEndian(start);
        return reader.TryReadUInt32(out uint magic) && magic == Magic;
    }

    /// <summary>Reads the header; false if more bytes are needed.</summary>
    /// <exception cref="StreamException">An image that QEMU does not know, or whose state cannot be read from the file alone.</exception>
    internal static bool TryRead(ref WireReader reader, out Qcow2Header? header)
    {
        header = null;
        if (reader.Remaining < Version2Length)
        {
            return false;
        }

        var all = WireReader.BigEndian(reader.Rest, reader.Offset);
        all.ReadUInt32("magic");
        uint version = all.ReadUInt32("version");
        if (version is not (2 or 3))
        {
            throw new StreamException(StreamError.UnsupportedVersion,
                $"The qcow2 image has version {version} at byte {reader.Offset + 4:N0}, expected 2 or 3.");
        }

        if (version == 3 && reader.Remaining < Length)
        {
            return false;
        }

        // The backing file's place and length.
        all.ReadBytes(12, "backing file");
        uint clusterBits = all.ReadUInt32("cluster_bits");
        ulong diskSize = all.ReadUInt64("size");
        uint crypt = all.ReadUInt32("crypt_method");

        // The active L1 table, the refcount table.
        all.ReadBytes(24, "L1 and refcount tables");
        uint snapshots = all.ReadUInt32("nb_snapshots");
        ulong snapshotsOffset = all.ReadUInt64("snapshots_offset");
        ulong features = version == 3 ? all.ReadUInt64("incompatible_features") : 0;
        if (clusterBits is < 9 or > 21)
        {
            throw Invalid(20, $"cluster_bits is {clusterBits}, expected 9 to 21");
        }

        if ((features & ~KnownFeatures) != 0)
        {
            throw new StreamException(StreamError.NotSupported,
                $"The qcow2 image has incompatible features 0x{features & ~KnownFeatures:x} at byte {reader.Offset + 72:N0} that are not known here.");
        }

        if (snapshots > MaxSnapshots || snapshotsOffset > long.MaxValue / 2 || diskSize > long.MaxValue / 2)
        {
            throw Invalid(60, $"{snapshots:N0} snapshots at {snapshotsOffset:N0} of a disk of {diskSize:N0} bytes are out of range");
        }

        header = new Qcow2Header((int)version, (int)clusterBits, diskSize, crypt, (int)snapshots, (long)snapshotsOffset, features);
        reader.TryReadBytes(version == 3 ? Length : Version2Length, out _);
        return true;
    }

    /// <summary>Throws if the image's clusters cannot be read as they lie in the file.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.NotSupported"/>: encrypted, or with an external data file.</exception>
    internal void ThrowIfUnreadable(string name)
    {
        if (CryptMethod != 0)
        {
            throw new StreamException(StreamError.NotSupported,
                $"'{name}' is an encrypted qcow2 image ({CryptMethod switch { 1 => "AES", 2 => "LUKS", _ => $"method {CryptMethod}" }}): its VM state cannot be read without the key.",
                action: "Load the snapshot in QEMU (-loadvm) and migrate to a file, or convert the image with qemu-img and its secret.")
            { Target = name };
        }

        if ((Features & ExternalDataFile) != 0)
        {
            throw new StreamException(StreamError.NotSupported,
                $"'{name}' is a qcow2 image with an external data file: such an image has no internal snapshots.",
                action: "Look in the VM's other disks: one of them may hold the state.")
            { Target = name };
        }
    }

    private static StreamException Invalid(long offset, string what)
        => new(StreamError.InvalidImage, $"The qcow2 header is invalid at byte {offset}: {what}.") { ByteOffset = offset };
}
