using System.Buffers.Binary;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// The VM state of a qcow2 snapshot: it lies in the snapshot's own tables behind the last byte of the disk. Clusters that
/// are not there read as zeros. Memory: one L1 and one L2 table.
/// </summary>
internal sealed class Qcow2StateStream : ForwardStream
{
    private readonly Qcow2Image _image;
    private readonly Qcow2Snapshot _snapshot;
    private readonly long _firstL1;
    private readonly byte[] _l1;
    private readonly byte[] _l2;
    private long _l2Index = -1;
    private bool _hasL2;
    private long _position;

    internal Qcow2StateStream(Qcow2Image image, Qcow2Snapshot snapshot)
    {
        _image = image;
        _snapshot = snapshot;
        long perEntry = image.Header.BytesPerL1Entry;

        // The size that the disk had then: it may have another one now.
        long disk = (long)(snapshot.DiskSize ?? image.Header.DiskSize);
        _firstL1 = (disk + perEntry - 1) / perEntry;
        long lastL1 = (snapshot.StateSize + perEntry - 1) / perEntry;
        if (_firstL1 + lastL1 > snapshot.L1Size)
        {
            throw new StreamException(StreamError.InvalidImage,
                $"The L1 table of snapshot '{snapshot.Name}' has {snapshot.L1Size:N0} entries, expected {_firstL1 + lastL1:N0} for a disk of {disk:N0} bytes and a state of {snapshot.StateSize:N0}.")
            { Target = image.Name };
        }

        _l1 = new byte[lastL1 * 8];
        image.Read(snapshot.L1Offset + (_firstL1 * 8), _l1, "a snapshot's L1 table");
        _l2 = new byte[image.Header.ClusterSize];
    }

    /// <summary>Bytes of state.</summary>
    internal long StateSize => _snapshot.StateSize;

    public override int Read(Span<byte> buffer)
    {
        if (_position >= StateSize)
        {
            if (buffer.Length > 0)
            {
                _image.ThrowIfChanged();
            }

            return 0;
        }

        int clusterSize = _image.Header.ClusterSize;
        int inCluster = (int)(_position & (clusterSize - 1));
        int count = (int)Math.Min(Math.Min(buffer.Length, clusterSize - inCluster), StateSize - _position);
        Fill(FindCluster(), inCluster, buffer[..count]);
        _position += count;
        return count;
    }

    private Qcow2Entry FindCluster()
    {
        var header = _image.Header;
        long index = _position / header.BytesPerL1Entry;
        if (index != _l2Index)
        {
            long table = Qcow2Entry.TableOffset(BinaryPrimitives.ReadUInt64BigEndian(_l1.AsSpan((int)index * 8)));
            _hasL2 = table != 0;
            if (_hasL2)
            {
                _image.Read(table, _l2, "an L2 table");
            }

            _l2Index = index;
        }

        if (!_hasL2)
        {
            return new Qcow2Entry(0, false, uint.MaxValue);
        }

        int entry = (int)(_position % header.BytesPerL1Entry / header.ClusterSize);
        var reader = WireReader.BigEndian(_l2.AsSpan(entry * header.EntrySize));
        Qcow2Entry.TryRead(ref reader, header.HasExtendedL2, out var found);
        return !found.IsCompressed ? found : throw new StreamException(StreamError.NotSupported,
            $"The VM state of snapshot '{_snapshot.Name}' has a compressed cluster at byte {_position:N0} of the state, which QEMU never writes there.",
            action: "Load the snapshot in QEMU (-loadvm) and migrate to a file.")
        { ByteOffset = _position, Target = _image.Name };
    }

    private void Fill(Qcow2Entry entry, int offset, Span<byte> destination)
    {
        if (entry.ZeroSubclusters == uint.MaxValue)
        {
            destination.Clear();
            return;
        }

        _image.Read(entry.HostOffset + offset, destination, "a cluster of the VM state");
        if (entry.ZeroSubclusters == 0)
        {
            return;
        }

        int size = _image.Header.ClusterSize / Qcow2Entry.Subclusters;
        for (int part = 0; part < Qcow2Entry.Subclusters; part++)
        {
            int from = Math.Max((part * size) - offset, 0);
            int to = Math.Min(((part + 1) * size) - offset, destination.Length);
            if (from < to && (entry.ZeroSubclusters >> part & 1) != 0)
            {
                destination[from..to].Clear();
            }
        }
    }
}
