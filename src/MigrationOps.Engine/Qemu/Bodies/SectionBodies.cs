using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Chooses who knows where a section's body ends.</summary>
internal static class SectionBodies
{
    // The run state's length and its text, zero-padded: the last section of a stream, whose end zeros behind it would hide.
    private const int GlobalStateLength = sizeof(uint) + 100;

    internal static ISectionBody For(SectionEntry entry, StreamSection section, WalkContext context, StreamDescription? description)
    {
        if (section.Kind == SectionKind.Full)
        {
            return IsVfio(section.IdStr) ? new VfioBody(context)
                : description?.LengthOf(section) is { } length ? new FixedBody(context, length)
                : section is { IdStr: "globalstate", VersionId: 1 } ? new FixedBody(context, GlobalStateLength)
                : new EndSearch(context);
        }

        // The handler's own state (the current RAM block) lives as long as the handler.
        return entry.Body ??= New(section, context);
    }

    /// <summary>Whether an idstr is that of a VFIO device's migration.</summary>
    internal static bool IsVfio(string idStr) => idStr == "vfio" || idStr.EndsWith("/vfio", StringComparison.Ordinal);

    private static ISectionBody New(StreamSection section, WalkContext context) => section.IdStr switch
    {
        StreamFormat.Ram when section.VersionId == RamBody.Version => new RamBody(context),
        StreamFormat.Ram => throw WalkContext.Failure(StreamError.UnsupportedVersion, section, section.Offset,
            $"RAM has version {section.VersionId}; {RamBody.Version} is known"),
        "dirty-bitmap" => new DirtyBitmapBody(context),
        "block" => new BlockBody(context),
        "spapr/htab" => new HashTableBody(context),
        "s390-storage_attributes" => new StorageAttributesBody(context),
        var name when IsVfio(name) => new VfioBody(context),
        _ => new EndSearch(context),
    };
}

/// <summary>A body whose length the description tells.</summary>
internal sealed class FixedBody(WalkContext context, long length) : ISectionBody
{
    private long _left = length;

    public bool Read(StreamSection section, ref WireReader reader, bool last)
    {
        int count = (int)Math.Min(_left, reader.Remaining);
        context.Pass(section, ref reader, count);
        _left -= count;
        return _left == 0;
    }
}
