using System.Globalization;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>Makes the objects that go to the pipeline.</summary>
internal static class StreamInfoMapper
{
    private const int FooterLength = 5;
    internal const int MaxShownBytes = 4096;

    internal static MigrationStreamInfo Map(StreamContents contents, string path) => new()
    {
        Path = path,
        Format = FormatOf(contents),
        Complete = contents.Failure is null && contents.ReachedEof,
        Failure = contents.Failure is { } failure ? StreamPlaces.DescribeFailure(contents, failure) : "",
        FailureOffset = contents.Failure?.ByteOffset,
        MachineType = contents.Configuration?.MachineType ?? "",
        Version = (int)StreamFormat.Version,
        Uuid = contents.Configuration?.Uuid,
        PageSize = (int)contents.PageSize,
        Libvirt = contents.Libvirt is { } libvirt ? new LibvirtImageInfo
        {
            Name = libvirt.DomainName,
            Uuid = libvirt.DomainUuid,
            WasRunning = libvirt.WasRunning,
            Version = libvirt.Version,
            Compression = libvirt.Compression,
            Xml = libvirt.Xml,
        } : null,
        Capabilities = [.. contents.Configuration?.Capabilities ?? []],
        Length = contents.Length,
        Sections = [.. contents.Sections.Select(s => Map(s, contents.HasFooters ? FooterLength : 0))],
        SectionsOmitted = contents.SectionsOmitted,
        RamBlocks = [.. contents.Ram.Select(r => Map(contents, r))],
        Commands = [.. contents.Commands.Select(c => new MigrationStreamCommand { Name = c.Id.ToString(), Offset = c.Offset, Data = Convert.ToHexStringLower(c.Data) })],
        CommandsOmitted = contents.CommandsOmitted,
        Devices = [.. contents.FullSections.Select(s => MapDevice(contents, path, s))],
        Channels = [.. contents.Channels.Select(Map)],
        Postcopy = contents.IsPostcopy,
        DescriptionOffset = contents.DescriptionJson is null ? null : contents.DescriptionOffset,
        TrailingBytes = contents.TrailingBytes,
        Notes = [.. StreamNotes.Of(contents)],
    };

    internal static MigrationStreamDevice MapDevice(StreamContents contents, string path, SectionContents section, StateNode? fields = null)
    {
        var header = section.Header;
        return new MigrationStreamDevice
        {
            Path = path,
            IdStr = header.IdStr,
            InstanceId = header.InstanceId,
            SectionId = header.Id,
            Layout = contents.Description?.Find(header.IdStr, header.InstanceId)?.VmsdName ?? "",
            Version = header.VersionId,
            Offset = header.BodyOffset,
            Length = section.BodyLength,
            Fields = fields?.Children is { } children ? MapFields(contents, children) : [],
        };
    }

    internal static string ValueText(StreamContents contents, StateNode node)
        => node.Children is { } children ? $"{children.Length} members" : Convert.ToString(Value(contents, node), CultureInfo.InvariantCulture) ?? "";

    private static string FormatOf(StreamContents contents)
    {
        string stream = contents.Channels.Count > 0 ? "multifd archive" : contents.HasCapability(StreamFormat.MappedRamCapability) ? "mapped-ram" : "stream";
        return contents.Libvirt is { } image ? $"libvirt {image.Compression} {stream}"
            : contents.Compression is { } compression ? $"{compression} {stream}" : stream;
    }

    private static MigrationStreamSection Map(SectionContents section, int footerLength) => new()
    {
        Kind = section.Header.Kind.ToString(),
        Id = section.Header.Id,
        IdStr = section.Header.IdStr,
        InstanceId = section.Header.InstanceId,
        Version = section.Header.VersionId,
        Offset = section.Header.Offset,
        Length = section.Header.BodyOffset - section.Header.Offset + section.BodyLength + footerLength,
        BodyOffset = section.Header.BodyOffset,
        BodyLength = section.BodyLength,
    };

    private static MigrationRamBlock Map(StreamContents contents, RamBlockContents ram) => new()
    {
        Name = ram.Block.Name,
        Size = ram.Block.Length,
        Pages = ram.Map.Pages,
        NormalPages = ram.Normal + ram.Xbzrle + ram.Compressed,
        ZeroPages = ram.IsMapped ? ram.Map.Pages - ram.Map.Seen : ram.Zero,
        FilledPages = ram.Filled,
        DuplicatePages = ram.Again,
        XbzrlePages = ram.Xbzrle,
        CompressedPages = ram.Compressed,
        MultifdPages = ram.Multifd,
        MissingPages = !ram.Map.IsExact ? null : ram.IsMapped || StreamNotes.IsShared(contents, ram) ? 0 : ram.Map.Pages - ram.Map.Seen,
        PageOrder = ram.Order.ToString("x16", CultureInfo.InvariantCulture),
        Address = ram.Block.Address,
        HostPageSize = ram.Block.HostPageSize,
        BitmapOffset = ram.Block.BitmapOffset,
        PagesOffset = ram.Block.PagesOffset,
    };

    private static MigrationStreamChannel Map(ChannelContents channel) => new()
    {
        Path = channel.Path,
        Id = channel.Id,
        Length = channel.Length,
        Packets = channel.Packets,
        SyncPackets = channel.Syncs,
        Pages = channel.Pages,
        Compression = channel.Compression,
        Warnings = [.. channel.Warnings],
        Devices = [.. channel.Devices.Select(d => $"{d.Key.IdStr} ({d.Value.Packets} packets, {d.Value.Bytes} bytes)")],
    };

    private static MigrationStreamField[] MapFields(StreamContents contents, StateNode[] nodes)
    {
        var fields = new MigrationStreamField[nodes.Length];
        var seen = new Dictionary<string, int>();

        // Elements of an array may be described one by one, with or without their index, and some of them together.
        var repeated = nodes.GroupBy(n => n.Name).Where(g => g.Skip(1).Any()).Select(g => g.Key).ToHashSet();
        for (int i = 0; i < nodes.Length; i++)
        {
            var node = nodes[i];
            int index = seen.GetValueOrDefault(node.Name);
            seen[node.Name] = index + 1;
            fields[i] = new MigrationStreamField
            {
                Name = (node.IsElement || (repeated.Contains(node.Name) && !node.IsSubsection)) && !node.Name.EndsWith(']') ? $"{node.Name}[{index}]" : node.Name,
                Type = node.Count == 1 ? node.Type : $"{node.Type}[{node.Count}]",
                Value = node.Children is null ? Value(contents, node) : null,
                Meaning = node.Text ?? "",
                Offset = node.Offset,
                Size = node.Length,
                Fields = node.Children is { } children ? MapFields(contents, children) : [],
            };
        }

        return fields;
    }

    private static object Value(StreamContents contents, StateNode node) => node.Type switch
    {
        _ when node.IsText => Text(contents, node),
        _ when node.Count > 1 => Hex(contents, node),
        "bool" => node.Number != 0,
        "nullptr" => "nullptr",
        "timer" when node.Size is > 0 and <= 8 => FieldTypes.Signed(node.Number, node.Size),
        var type when FieldTypes.IsInteger(type) && node.Size is > 0 and <= 8
            => FieldTypes.IsSigned(type) ? FieldTypes.Signed(node.Number, node.Size) : node.Number,
        _ => Hex(contents, node),
    };

    private static string Text(StreamContents contents, StateNode node)
    {
        var data = new byte[Math.Min(node.Length, MaxShownBytes)];
        contents.Bytes!.Read(node.Offset, data);
        return RunStateCheck.ReadText(data);
    }

    // Long buffers are for Export-MigrationDeviceState; a tree on the screen shows their beginning.
    private static string Hex(StreamContents contents, StateNode node)
    {
        int shown = (int)Math.Min(node.Length, MaxShownBytes);
        contents.Budget.Take(2 * shown, "the values of fields");
        var data = new byte[shown];
        contents.Bytes!.Read(node.Offset, data);
        return Convert.ToHexStringLower(data) + (shown < node.Length ? $"… ({node.Length:N0} bytes)" : "");
    }
}
