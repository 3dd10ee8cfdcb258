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

    /// <summary>False if no section ends with a footer.</summary>
    internal bool HasFooters { get; set; } = true;

    /// <summary>Devices whose end was found by the header behind it, for lack of a footer and a description.</summary>
    internal int EndsFound { get; set; }

    /// <summary>True if nothing but the file's end shows where the last section ends.</summary>
    internal bool IsEndUncertain { get; set; }

    /// <summary>Why the description is of no use; the stream itself may be whole, and QEMU does not read descriptions.</summary>
    internal StreamException? DescriptionFailure { get; set; }

    /// <summary>How the stream was compressed as a whole; null if it was not, or in a libvirt image.</summary>
    internal string? Compression { get; set; }

    /// <summary>Where the stream starts in the file.</summary>
    internal long BaseOffset { get; set; }

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

    /// <summary>What the bytes behind the stream are, as far as they were looked at.</summary>
    internal string TrailingKind { get; set; } = "";

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

    /// <summary>Counts all pages in another size from now on.</summary>
    internal void SetPageSize(long pageSize)
    {
        Ram.ForEach(r => r.Rescale(PageSize, pageSize));
        PageSize = pageSize;
    }

    public void Dispose() => Bytes?.Dispose();
}
