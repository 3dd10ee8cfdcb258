using MigrationOps.Engine.Streams;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>Guest addresses that virtio devices read while they load: the indexes of the rings of every queue in use.</summary>
internal static class VirtioRings
{
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

            if (description.Find(name, section.Header.InstanceId) is not { } device || !device.HasFieldOfType(DeviceDecoder.VirtioType))
            {
                continue;
            }

            foreach (var node in DeviceDecoder.Decode(contents, section).All().Where(n => n is { Type: DeviceDecoder.VirtioType, Size: > 0 }))
            {
                var state = VirtioState.From(name, node, contents.Bytes!) ?? throw new RehearsalException(RehearsalError.NotSupported,
                    $"The virtio state of {name} is of a transport that is not known here.", action: "Rehearse it with its memory.");
                addresses.AddRange(state.Queues.Where(q => q.Descriptors != 0).SelectMany(q => new[] { q.AvailableIndexAddress, q.UsedIndexAddress }));
            }
        }

        return addresses;
    }
}
