using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Reads the headers of sections, and keeps which handler an id belongs to.</summary>
internal static class SectionHeaders
{
    /// <summary>Reads the header of a START or FULL section from its type byte on; null while bytes are lacking.</summary>
    internal static StreamSection? TryReadStart(ref WireReader reader, WalkContext context)
    {
        var r = reader;
        if (!r.TryReadByte(out byte kind) || !r.TryReadUInt32(out uint id) || !r.TryReadByte(out byte length)
            || !r.TryReadBytes(length, out var name) || !r.TryReadUInt32(out uint instance) || !r.TryReadUInt32(out uint version))
        {
            return null;
        }

        if (!IsIdStr(name))
        {
            throw WalkContext.Failure(StreamError.UnknownElement, null, reader.Offset, $"Section {id} has no readable name");
        }

        var section = new StreamSection((SectionKind)kind, id, Encoding.UTF8.GetString(name), instance, version, reader.Offset, r.Offset);
        if (!context.Sections.TryGetValue(id, out var entry))
        {
            if (context.Sections.Count == StreamFormat.MaxSections)
            {
                throw WalkContext.Failure(StreamError.LimitExceeded, section, reader.Offset, $"More than {StreamFormat.MaxSections:N0} sections are started");
            }

            entry = new SectionEntry(section);
            context.Sections.Add(id, entry);
        }
        else if (entry.Header.IdStr != section.IdStr || entry.Header.InstanceId != instance)
        {
            throw WalkContext.Failure(StreamError.UnknownSection, section, reader.Offset,
                $"Section id {id} belongs to {entry.Header.Display} since byte {entry.Header.Offset:N0}, and is started again as {section.Display}");
        }

        reader = r;
        entry.Header = section;
        return section;
    }

    /// <summary>Reads the header of a PART or END section from its type byte on; null while bytes are lacking.</summary>
    internal static StreamSection? TryReadPart(ref WireReader reader, WalkContext context)
    {
        var r = reader;
        if (!r.TryReadByte(out byte kind) || !r.TryReadUInt32(out uint id))
        {
            return null;
        }

        if (!context.Sections.TryGetValue(id, out var entry))
        {
            throw WalkContext.Failure(StreamError.UnknownSection, null, reader.Offset,
                $"A {(SectionKind)kind} section names id {id}, which no section has started");
        }

        var section = entry.Header with { Kind = (SectionKind)kind, Offset = reader.Offset, BodyOffset = r.Offset };
        reader = r;
        return section;
    }

    /// <summary>Whether the bytes can be a handler's name: QEMU's are printable ASCII.</summary>
    internal static bool IsIdStr(ReadOnlySpan<byte> name) => !name.IsEmpty && !name.ContainsAnyExceptInRange((byte)0x20, (byte)0x7e);
}
