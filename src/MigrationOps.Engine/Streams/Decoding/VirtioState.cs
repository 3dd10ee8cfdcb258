using System.Buffers.Binary;

namespace MigrationOps.Engine.Streams;

/// <summary>A queue of a virtio device as the stream has it.</summary>
/// <param name="Index">Its number.</param>
/// <param name="Size">How many entries its rings have; 0 for a queue that the device does not have.</param>
/// <param name="Descriptors">The guest-physical address of its descriptors; 0 for a queue that the guest has not set up.</param>
/// <param name="Available">The address of the ring by which the guest gives buffers.</param>
/// <param name="Used">The address of the ring by which the device gives them back.</param>
/// <param name="LastAvailable">Up to which index the device has taken buffers.</param>
/// <param name="Vector">Its MSI-X vector; null without MSI-X.</param>
internal sealed record VirtioQueueState(int Index, uint Size, ulong Descriptors, ulong Available, ulong Used, ushort LastAvailable, ushort? Vector)
{
    // Both rings begin with 16 bits of flags. Source: the virtio specification 1.2, 2.7.6 and 2.7.8.
    private const int IndexOffset = 2;

    /// <summary>Where the guest keeps up to which index it has given buffers. QEMU reads it while it loads the device.</summary>
    internal ulong AvailableIndexAddress => Available + IndexOffset;

    /// <summary>Where the device keeps up to which index it has given buffers back. QEMU reads it while it loads the device.</summary>
    internal ulong UsedIndexAddress => Used + IndexOffset;
}

/// <summary>What QEMU looks at when it loads a virtio device.</summary>
internal sealed record VirtioState
{
    private const int VersionOne = 32;
    private const int AccessPlatform = 33;
    private const int RingPacked = 34;
    private const int DefaultAlignment = 4096;
    private const int SubsectionHead = 6;

    internal required string Device { get; init; }

    internal required ulong Features { get; init; }

    internal required uint QueueSelected { get; init; }

    /// <summary>Entries of the MSI-X table; 0 without.</summary>
    internal required int Vectors { get; init; }

    internal required ushort? ConfigVector { get; init; }

    internal required VirtioQueueState[] Queues { get; init; }

    internal bool IsPacked => Has(RingPacked);

    /// <summary>True if addresses may be an IOMMU's rather than the guest's memory's.</summary>
    internal bool IsTranslated => Has(AccessPlatform);

    /// <summary>Reads it from a decoded "virtio" field; null if that could not be taken apart.</summary>
    internal static VirtioState? From(string device, StateNode virtio, StreamBytes bytes)
    {
        if (virtio.Child("num_queues") is not { } count)
        {
            return null;
        }

        ulong features = virtio.Child("guest_features")?.Number ?? virtio.Child("guest_features_low")?.Number ?? 0;
        var rings = (features >> VersionOne & 1) != 0 ? ReadRings(virtio, bytes, (int)count.Number) : null;
        var queues = new List<VirtioQueueState>();
        for (int i = 0; i < (int)count.Number && virtio.Child($"queue[{i}]") is { } queue; i++)
        {
            uint size = (uint)(queue.Child("num")?.Number ?? 0);
            ulong descriptors = queue.Child("desc")?.Number ?? 0;
            ulong alignment = queue.Child("align")?.Number is { } a and > 0 ? a : DefaultAlignment;

            // Before version 1 the rings lie one behind the other.
            ulong available = rings?[i].Available ?? descriptors + (16UL * size);
            ulong used = rings?[i].Used ?? ((available + 4 + (2UL * size) + alignment - 1) & ~(alignment - 1));
            queues.Add(new VirtioQueueState(i, size, descriptors, available, used, (ushort)(queue.Child("last_avail_idx")?.Number ?? 0), (ushort?)queue.Child("vector")?.Number));
        }

        return new VirtioState
        {
            Device = device,
            Features = features,
            QueueSelected = (uint)(virtio.Child("queue_sel")?.Number ?? 0),
            Vectors = (int)((virtio.Child("msix table")?.Size ?? 0) / 16),
            ConfigVector = (ushort?)virtio.Child("config_vector")?.Number,
            Queues = [.. queues],
        };
    }

    // Two addresses for each queue that a device may have.
    private static (ulong Available, ulong Used)[]? ReadRings(StateNode virtio, StreamBytes bytes, int count)
    {
        const string Name = "virtio/virtqueues";
        if (virtio.Child(Name) is not { } node || node.Size < SubsectionHead + Name.Length + (16L * count))
        {
            return null;
        }

        var data = new byte[16 * count];
        bytes.Read(node.Offset + SubsectionHead + Name.Length, data);
        return [.. Enumerable.Range(0, count).Select(i => (BinaryPrimitives.ReadUInt64BigEndian(data.AsSpan(16 * i)), BinaryPrimitives.ReadUInt64BigEndian(data.AsSpan((16 * i) + 8))))];
    }

    private bool Has(int feature) => (Features >> feature & 1) != 0;
}
