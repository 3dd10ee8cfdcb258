using MigrationOps.Engine.Qemu;
namespace MigrationOps.Engine.Streams;

/// <summary>A section of the stream and its length.</summary>
/// <param name="Header">Its header.</param>
/// <param name="BodyLength">How many bytes its body has.</param>
internal sealed record SectionContents(StreamSection Header, long BodyLength);

/// <summary>A piece of a VFIO device's state in the main stream.</summary>
/// <param name="SectionId">The device's section.</param>
/// <param name="Offset">Where its first byte lies.</param>
/// <param name="Length">Its length.</param>
internal readonly record struct VfioBlock(uint SectionId, long Offset, long Length);

/// <summary>What was found in a stream: whole, or as far as it could be read.</summary>
internal sealed class StreamContents(MemoryBudget budget) : IDisposable
{
    internal MemoryBudget Budget { get; } = budget;

    internal string Name { get; set; } = "";

    internal LibvirtImage? Libvirt { get; set; }

    internal StreamConfiguration? Configuration { get; set; }

    internal long PageSize { get; set; } = StreamFormat.DefaultPageSize;

    internal List<SectionContents> Sections { get; } = [];

    /// <summary>PART sections beyond those that are listed.</summary>
    internal long SectionsOmitted { get; set; }

    /// <summary>The section that was being read when the stream failed.</summary>
    internal StreamSection? Unfinished { get; set; }

    internal List<RamBlockContents> Ram { get; } = [];

    /// <summary>The state of VFIO devices, in the order of the stream.</summary>
    internal List<VfioBlock> VfioData { get; } = [];

    internal List<StreamCommand> Commands { get; } = [];

    internal long CommandsOmitted { get; set; }

    internal long MultifdFlushes { get; set; }

    internal bool ReachedEof { get; set; }

    internal byte[]? DescriptionJson { get; set; }

    internal StreamDescription? Description { get; set; }

    internal long DescriptionOffset { get; set; } = -1;

    internal long TrailingBytes { get; set; }

    /// <summary>Bytes of the main stream.</summary>
    internal long Length { get; set; }

    internal List<ChannelContents> Channels { get; } = [];

    /// <summary>Why it could not be read further.</summary>
    internal StreamException? Failure { get; set; }

    internal StreamBytes? Bytes { get; set; }

    internal bool IsPostcopy => Commands.Exists(c => c.Id == StreamCommandId.PostcopyListen);

    internal bool HasCapability(string name) => Configuration?.Capabilities.Contains(name) ?? false;

    /// <summary>The sections of devices that were saved at once, in the order of the stream.</summary>
    internal IEnumerable<SectionContents> FullSections => Sections.Where(s => s.Header.Kind == SectionKind.Full);

    public void Dispose() => Bytes?.Dispose();
}
