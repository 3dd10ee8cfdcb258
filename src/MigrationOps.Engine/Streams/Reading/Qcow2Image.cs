using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// A qcow2 image and the snapshots in it. It is opened for reading and never locked, so that a running QEMU keeps it; what
/// that QEMU changes meanwhile is found by <see cref="ThrowIfChanged"/>.
/// </summary>
internal sealed class Qcow2Image : IDisposable
{
    private readonly FileStream _stream;
    private readonly SafeFileHandle _file;
    private readonly byte[] _tables;
    private readonly long _start;

    private Qcow2Image(string name, FileStream stream, long start)
    {
        Name = name;
        _stream = stream;
        _file = stream.SafeFileHandle;
        _start = start;
        var bytes = ReadUpTo(0, Qcow2Header.Length);
        var reader = WireReader.BigEndian(bytes);
        if (!Qcow2Header.TryRead(ref reader, out var header))
        {
            throw Short(bytes.Length, "inside its header");
        }

        Header = header!;
        (Snapshots, int length) = ReadSnapshots();
        _tables = ReadTables(length);
    }

    /// <summary>What errors call it.</summary>
    internal string Name { get; }

    internal Qcow2Header Header { get; }

    /// <summary>The snapshots in the table's order, those of the disk alone included.</summary>
    internal IReadOnlyList<Qcow2Snapshot> Snapshots { get; }

    /// <summary>Reads the header and the table of snapshots; null if the file is no qcow2 image.</summary>
    /// <param name="path">A file or block device.</param>
    /// <param name="start">Where the image starts in it.</param>
    /// <exception cref="StreamException">The tables contradict the format.</exception>
    internal static Qcow2Image? TryOpen(string path, long start)
    {
        var stream = StreamSource.OpenFile(path);
        bool taken = false;
        try
        {
            Span<byte> magic = stackalloc byte[4];
            if (!stream.CanSeek || ReadMagic(stream, magic, start) < magic.Length || !Qcow2Header.IsMagic(magic))
            {
                return null;
            }

            var image = new Qcow2Image(path, stream, start);
            taken = true;
            return image;
        }
        finally
        {
            if (!taken)
            {
                stream.Dispose();
            }
        }
    }

    private static int ReadMagic(FileStream stream, Span<byte> magic, long start)
    {
        try
        {
            return RandomAccess.Read(stream.SafeFileHandle, magic, start);
        }
        catch (IOException e)
        {
            throw new WireException(WireError.InputOutput, $"'{stream.Name}' cannot be read at byte {start:N0}: {e.Message}", e) { Target = stream.Name };
        }
    }

    /// <summary>The snapshot of that name or id, or the only one with VM state.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.NotFound"/>, or more than one has state.</exception>
    internal Qcow2Snapshot Choose(string? snapshot)
    {
        if (snapshot is not null)
        {
            var named = Snapshots.FirstOrDefault(s => s.Name == snapshot) ?? Snapshots.FirstOrDefault(s => s.Id == snapshot)
                ?? throw NotFound($"'{Name}' has no snapshot '{snapshot}'; it has {List(Snapshots)}.", "Give the name of a snapshot that the image has.");
            return named.StateSize > 0 ? named
                : throw NotFound($"The snapshot '{snapshot}' in '{Name}' has no VM state.", NoStateAction);
        }

        var withState = Snapshots.Where(s => s.StateSize > 0).ToArray();
        return withState.Length switch
        {
            1 => withState[0],
            0 => throw NotFound($"'{Name}' is a qcow2 image without VM state; its snapshots: {List(Snapshots)}.",
                Snapshots.Count > 0 ? NoStateAction : "Give an image with a snapshot that savevm made."),
            _ => throw NotFound($"'{Name}' has VM state in {withState.Length} snapshots: {List(withState)}.", "Choose one by its name."),
        };
    }

    /// <summary>The VM state of a snapshot. The stream reads from this image, which must stay open.</summary>
    internal Qcow2StateStream OpenState(Qcow2Snapshot snapshot) => new(this, snapshot);

    /// <summary>Reads the header and the table again.</summary>
    /// <exception cref="StreamException">They are not what they were.</exception>
    internal void ThrowIfChanged()
    {
        if (!ReadTables(_tables.Length - Qcow2Header.Length).AsSpan().SequenceEqual(_tables))
        {
            throw new StreamException(StreamError.InvalidImage, $"The snapshots of '{Name}' changed while the state was read.",
                action: "Read it again when no QEMU makes or deletes snapshots in the image.")
            { Target = Name };
        }
    }

    /// <summary>Fills the span with bytes of the file.</summary>
    /// <exception cref="StreamException">The file ends before.</exception>
    internal void Read(long offset, Span<byte> destination, string what)
    {
        int got = ReadSome(offset, destination);
        if (got < destination.Length)
        {
            throw Short(offset + got, $"inside {what}");
        }
    }

    public void Dispose() => _stream.Dispose();

    private const string NoStateAction = "The state may lie in another disk of the VM: QEMU writes it into one of them only.";

    private (IReadOnlyList<Qcow2Snapshot> Snapshots, int Length) ReadSnapshots()
    {
        var snapshots = new List<Qcow2Snapshot>();
        long offset = Header.SnapshotsOffset;
        while (snapshots.Count < Header.SnapshotCount)
        {
            byte[] bytes = ReadUpTo(offset, Qcow2Snapshot.MaxLength);
            var reader = WireReader.BigEndian(bytes, offset);
            if (!Qcow2Snapshot.TryRead(ref reader, out var snapshot))
            {
                throw Short(offset + bytes.Length, $"inside entry {snapshots.Count} of its snapshot table");
            }

            snapshots.Add(snapshot!);
            offset += reader.Position;
        }

        long length = offset - Header.SnapshotsOffset;
        return length <= MaxTable ? (snapshots, (int)length)
            : throw new StreamException(StreamError.LimitExceeded, $"The snapshot table of '{Name}' has {length:N0} bytes, more than {MaxTable:N0}.") { Target = Name };
    }

    // QEMU's own limit: 16 MiB.
    private const int MaxTable = 16 << 20;

    private byte[] ReadTables(int length)
    {
        byte[] tables = new byte[Qcow2Header.Length + length];
        ReadSome(0, tables.AsSpan(0, Qcow2Header.Length));
        ReadSome(Header.SnapshotsOffset, tables.AsSpan(Qcow2Header.Length));
        return tables;
    }

    private byte[] ReadUpTo(long offset, int count)
    {
        byte[] bytes = new byte[count];
        return bytes[..ReadSome(offset, bytes)];
    }

    private int ReadSome(long offset, Span<byte> destination)
    {
        int total = 0;
        try
        {
            while (total < destination.Length && RandomAccess.Read(_file, destination[total..], _start + offset + total) is > 0 and var count)
            {
                total += count;
            }
        }
        catch (IOException e)
        {
            throw new WireException(WireError.InputOutput, $"'{Name}' cannot be read at byte {offset + total:N0}: {e.Message}", e) { Target = Name };
        }

        return total;
    }

    private StreamException NotFound(string message, string action) => new(StreamError.NotFound, message, action: action) { Target = Name };

    private StreamException Short(long offset, string where)
        => new(StreamError.Truncated, $"The qcow2 image '{Name}' ends at byte {offset:N0}, {where}.") { ByteOffset = offset, Target = Name };

    private static string List(IReadOnlyCollection<Qcow2Snapshot> snapshots)
        => snapshots.Count == 0 ? "none"
            : string.Join(", ", snapshots.Take(10).Select(s => $"'{s.Name}' ({s.StateSize:N0} bytes of state)")) + (snapshots.Count > 10 ? ", ..." : "");
}
