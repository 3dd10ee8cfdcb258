using System.Buffers.Binary;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>
/// Guest addresses that virtio devices read while they load: the index of the available and of the used ring of every queue in use.
/// Source: the virtio specification 1.2, 2.7 (layout of the split ring); packed rings are not read.
/// </summary>
internal static class VirtioRings
{
    private const int DescriptorSize = 16;
    private const int IndexOffset = 2;
    private const int LegacyAlignment = 4096;
    private const string VirtioType = "virtio";
    private const string RingAddresses = "virtio/virtqueues";

    /// <summary>The addresses of all devices of a stream.</summary>
    /// <exception cref="RehearsalException">The state of a virtio device cannot be taken apart.</exception>
    internal static IReadOnlyList<ulong> FindAddresses(StreamContents contents)
    {
        var addresses = new List<ulong>();
        foreach (var section in contents.FullSections)
        {
            string name = section.Header.IdStr;
            if (contents.Description is not { } description)
            {
                if (name.Contains("virtio", StringComparison.Ordinal) || name.Contains("vhost", StringComparison.Ordinal))
                {
                    throw new RehearsalException(RehearsalError.NotSupported,
                        $"The stream does not describe {name}, so that the pages that it reads while it loads are not known.",
                        action: "Rehearse it with its memory.");
                }

                continue;
            }

            if (description.Find(name, section.Header.InstanceId) is not { } device || !device.HasFieldOfType(VirtioType))
            {
                continue;
            }

            foreach (var node in DeviceDecoder.Decode(contents, section).All().Where(n => n is { Type: VirtioType, Size: > 0 }))
            {
                AddQueues(contents, section, node.Children ?? throw new RehearsalException(RehearsalError.NotSupported,
                    $"The virtio state of {name} is of a transport that is not known here.", action: "Rehearse it with its memory."), addresses);
            }
        }

        return addresses;
    }

    private static void AddQueues(StreamContents contents, SectionContents section, StateNode[] nodes, List<ulong> addresses)
    {
        var rings = Array.Find(nodes, n => n.Name == RingAddresses);
        byte[] table = rings is null ? [] : Read(contents, rings, 6 + RingAddresses.Length, section);
        int index = -1;
        foreach (var queue in nodes.Where(n => n.Name.StartsWith("queue[", StringComparison.Ordinal)))
        {
            index++;
            ulong size = Number(queue, "num");
            ulong descriptors = Number(queue, "desc");
            if (descriptors == 0)
            {
                continue;
            }

            // The modern layout has an address for each ring; in the legacy one they follow the descriptors.
            bool modern = table.Length >= (index + 1) * 16;
            ulong available = modern ? BinaryPrimitives.ReadUInt64BigEndian(table.AsSpan(index * 16)) : descriptors + (size * DescriptorSize);
            ulong align = Number(queue, "align") is > 0 and var own ? own : LegacyAlignment;
            ulong used = modern ? BinaryPrimitives.ReadUInt64BigEndian(table.AsSpan((index * 16) + 8))
                : (available + 4 + (size * 2) + align - 1) / align * align;
            addresses.Add(available + IndexOffset);
            addresses.Add(used + IndexOffset);
        }
    }

    private static byte[] Read(StreamContents contents, StateNode node, int head, SectionContents section)
    {
        contents.Budget.Take(node.Size, $"the rings of {section.Header.Display}");
        byte[] bytes = new byte[Math.Max(0, node.Size - head)];
        contents.Bytes!.Read(node.Offset + head, bytes);
        contents.Budget.Return(node.Size);
        return bytes;
    }

    private static ulong Number(StateNode queue, string name)
        => Array.Find(queue.Children ?? [], n => n.Name == name)?.Number ?? 0;
}
