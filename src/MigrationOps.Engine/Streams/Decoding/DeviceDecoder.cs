using MigrationOps.Engine.Qemu;
namespace MigrationOps.Engine.Streams;

/// <summary>Decodes a device's section as far as its description, and what is known of virtio, allow.</summary>
internal static class DeviceDecoder
{
    internal const string VirtioType = "virtio";
    private const int MaxVirtio = 16 << 20;

    /// <summary>The device's fields as a tree.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.NoDescription"/> if the stream does not describe it.</exception>
    internal static StateNode Decode(StreamContents contents, SectionContents section)
    {
        var header = section.Header;
        var described = contents.Description?.Find(header.IdStr, header.InstanceId)
            ?? throw new StreamException(StreamError.NoDescription,
                $"The fields of {header.Display} at byte {header.Offset:N0} have no names: the stream has no description of it.{(contents.DescriptionFailure is { } failure ? " " + failure.Message : "")}")
            { Section = header.Display, ByteOffset = header.Offset };
        var root = new FieldDecoder(contents.Bytes!, contents.Budget, header.Display).Decode(described, header.BodyOffset, section.BodyLength);
        foreach (var node in root.All().Where(n => n.Type == VirtioType && n.Size is > 0 and <= MaxVirtio).ToList())
        {
            contents.Budget.Take(node.Size, $"the fields of {header.Display}");
            var data = new byte[node.Size];
            contents.Bytes!.Read(node.Offset, data);
            node.Children = VirtioDecoder.Decode(described.VmsdName.Length > 0 ? described.VmsdName : header.IdStr, data, node.Offset);
            contents.Budget.Return(node.Size);
        }

        if (header.IdStr == RunStateCheck.DeviceName && root.Child(RunStateCheck.FieldName) is { } runState)
        {
            runState.IsText = true;
        }

        if (BackendField(root) is { } field)
        {
            field.Children = BackendChunks.Split(contents.Bytes!, field, contents.Budget);
        }

        return root;
    }

    /// <summary>The field that holds the chunks of a vhost-user back-end's state.</summary>
    internal static StateNode? BackendField(StateNode root)
        => root.All().FirstOrDefault(n => n.IsSubsection && n.Name.EndsWith("backend", StringComparison.Ordinal))?.Children is { Length: > 0 } children
            ? Array.Find(children, c => c.Name is "back-end" or "backend") ?? children[0]
            : null;
}
