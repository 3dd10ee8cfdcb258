using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>What is unusual about a stream without keeping QEMU from loading it.</summary>
internal static class StreamNotes
{
    internal const string NoFooters = "the destination loads it with a machine type before 2.4, or with -global migration.send-section-footer=off";
    internal const string RamNotEnded = "ram has no END section, as capability background-snapshot leaves it; QEMU loads that";

    internal static IEnumerable<string> Of(StreamContents contents)
    {
        if (contents.BaseOffset > 0 || contents.Compression is not null || contents.Libvirt is not null)
        {
            yield return StreamPlaces.Origin(contents);
        }

        if (contents.Configuration is null && contents.Sections.Count > 0)
        {
            yield return "The stream has no configuration, so that it does not name its machine type: one before 2.4.";
        }

        if (!contents.HasFooters)
        {
            yield return $"The sections have no footers: {NoFooters}.";
        }

        if (contents.EndsFound > 0 && contents.Description is null)
        {
            yield return $"Neither footers nor a description tell where devices end: {contents.EndsFound} ends were found by the header of the next section"
                + (contents.IsEndUncertain ? ", the last one by the end of the file." : ".");
        }

        if (contents.DescriptionFailure is { } failure)
        {
            yield return $"{StreamPlaces.DescribeFailure(contents, failure)} {failure.RecommendedAction}";
        }
        else if (contents is { ReachedEof: true, DescriptionJson: null, IsPostcopy: false })
        {
            yield return "The stream has no description: its fields have no names. QEMU does not need it.";
        }

        foreach (var ram in contents.Ram.Where(r => IsShared(contents, r)))
        {
            yield return $"RAM block {ram.Block.Name} is shared memory that stays where it is (x-ignore-shared).";
        }

        if (contents.ReachedEof && contents.Sections.Any(s => s.Header is { Kind: SectionKind.Start, IdStr: "ram" })
            && !contents.Sections.Any(s => s.Header is { Kind: SectionKind.End, IdStr: "ram" }))
        {
            yield return RamNotEnded + ".";
        }

        if (contents.TrailingBytes > 0)
        {
            yield return Trailing(contents) + ".";
        }
    }

    /// <summary>Whether a block's pages are not in the stream because they stay where they are.</summary>
    internal static bool IsShared(StreamContents contents, RamBlockContents ram)
        => contents.HasCapability(StreamFormat.IgnoreSharedCapability) && !ram.IsMapped && ram.Received == 0;

    internal static string Trailing(StreamContents contents)
        => $"{contents.TrailingBytes:N0} bytes follow the stream{(contents.TrailingKind.Length > 0 ? $" ({contents.TrailingKind})" : "")}; QEMU does not read them";
}

/// <summary>Says what the places in messages count from.</summary>
internal static class StreamPlaces
{
    /// <summary>The failure's message, with what its bytes count from where that is not the file's first byte.</summary>
    internal static string DescribeFailure(StreamContents contents, StreamException failure)
        => failure.ByteOffset is null || failure.Section == LibvirtImage.SectionName || (contents.BaseOffset == 0 && contents.Compression is null && contents.Libvirt is null)
            ? failure.Message : $"{failure.Message} {Origin(contents)}";

    internal static string Origin(StreamContents contents)
    {
        string? compression = contents.Compression ?? (contents.Libvirt is { Compression: not ("raw" or "sparse") and var c } ? c : null);
        return compression is not null && contents.Libvirt is not null && contents.Compression is null
            ? $"Bytes count from the start of the stream as {compression} gives it; the compressed one starts at byte {contents.BaseOffset:N0} of the file."
            : compression is not null
                ? $"Bytes count from the start of the stream as {compression} gives it{(contents.BaseOffset > 0 ? $", {contents.BaseOffset:N0} bytes into what it gives" : "")}."
            : $"Bytes count from the start of the stream, which is at byte {contents.BaseOffset:N0} of the file.";
    }
}
