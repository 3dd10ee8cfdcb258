using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>What the bodies of sections need to know of the stream around them.</summary>
internal sealed class WalkContext(StreamVisitor visitor)
{
    internal StreamVisitor Visitor { get; } = visitor;

    /// <summary>Null until the stream, or the caller beforehand, has set it.</summary>
    internal long? KnownPageSize { get; set; }

    /// <summary>What the places of the pages so far allow, until the size is known for certain.</summary>
    internal long LikelyPageSize { get; set; } = StreamFormat.DefaultPageSize;

    internal long PageSize => KnownPageSize ?? LikelyPageSize;

    /// <summary>Whether bodies end with a footer; null until the first of them has shown it.</summary>
    internal bool? HasFooters { get; set; }

    internal bool IgnoreShared { get; set; }

    internal bool MappedRam { get; set; }

    /// <summary>From POSTCOPY_ADVISE: the OR of the page sizes of all blocks; 0 without postcopy.</summary>
    internal ulong HostPageSizes { get; set; }

    /// <summary>Bytes that are not needed; the caller that feeds the walker may seek over them.</summary>
    internal long PendingSkip { get; set; }

    /// <summary>The ids that later sections may name.</summary>
    internal Dictionary<uint, SectionEntry> Sections { get; } = [];

    /// <summary>Where the PACKAGED stream in the stream ends, or -1.</summary>
    internal long PackageEnd { get; set; } = -1;

    /// <summary>Consumes bytes of a section's body and shows them to the visitor.</summary>
    internal void Pass(StreamSection section, ref WireReader reader, int count)
    {
        long offset = reader.Offset;
        if (count > 0 && reader.TryReadBytes(count, out var data))
        {
            Visitor.OnSectionData(section, offset, data);
        }
    }

    /// <summary>Notes the id of a START or FULL section, which the sections behind it may name.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidSectionId"/>, <see cref="StreamError.LimitExceeded"/>.</exception>
    internal void Register(StreamSection section)
    {
        if (!Sections.TryGetValue(section.Id, out var entry))
        {
            if (Sections.Count == StreamFormat.MaxSections)
            {
                throw Failure(StreamError.LimitExceeded, section, section.Offset, $"More than {StreamFormat.MaxSections:N0} sections are started");
            }

            Sections.Add(section.Id, new SectionEntry(section));
            return;
        }

        if (entry.Header.IdStr != section.IdStr || entry.Header.InstanceId != section.InstanceId)
        {
            throw Failure(StreamError.InvalidSectionId, section, section.Offset,
                $"Section id {section.Id} is {entry.Header.Display} since byte {entry.Header.Offset:N0}, and is started again as {section.Display}");
        }

        entry.Header = section;
    }

    /// <summary>The whole header of a PART or END section.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidSectionId"/>.</exception>
    internal StreamSection Resolve(SectionPart part)
        => Sections.TryGetValue(part.Id, out var entry)
            ? entry.Header with { Kind = part.Kind, Offset = part.Offset, BodyOffset = part.BodyOffset }
            : throw Failure(StreamError.InvalidSectionId, null, part.Offset, $"A {part.Kind} section names id {part.Id}, which no section has started");

    internal static StreamException Failure(StreamError reason, StreamSection? section, long offset, string message, string? action = null)
        => new(reason, $"{message.TrimEnd('.')} at byte {offset:N0}{(section is null ? "" : $" in section {section.Display}")}.", action: action)
        {
            Section = section?.Display,
            ByteOffset = offset,
        };
}

/// <summary>A handler's sections: the first header, and the state that its body parser keeps between sections.</summary>
internal sealed class SectionEntry(StreamSection header)
{
    internal StreamSection Header { get; set; } = header;

    internal ISectionBody? Body { get; set; }
}

/// <summary>Knows where a body ends.</summary>
internal interface ISectionBody
{
    /// <summary>Consumes what it can of the body.</summary>
    /// <param name="section">The section that is being read.</param>
    /// <param name="reader">The bytes at hand.</param>
    /// <param name="last">True at the end of the input.</param>
    /// <returns>True once the reader stands at the footer; false if more bytes, or the pending skip, are needed.</returns>
    bool Read(StreamSection section, ref WireReader reader, bool last);

    /// <summary>Whether bytes can only be the start of a PART or END body of this handler; null if more of them are needed to tell.</summary>
    bool? MustStart(ReadOnlySpan<byte> data) => false;
}
