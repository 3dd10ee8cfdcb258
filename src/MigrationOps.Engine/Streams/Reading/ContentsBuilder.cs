using MigrationOps.Engine.Qemu;
namespace MigrationOps.Engine.Streams;

/// <summary>Gathers what a walker reports. Lists have limits, so that a stream of a million tiny things costs as much as a real one.</summary>
internal sealed class ContentsBuilder(StreamContents contents, SpooledBytes? spool, bool spoolEverything) : StreamVisitor
{
    private const int MaxListedSections = 100_000;
    private const int MaxListedCommands = 10_000;
    private const int BytesPerSection = 240;
    private const int BytesPerBlock = 1000;
    private const int BytesPerVfioBlock = 48;

    private byte[] _json = [];
    private int _jsonLength;

    /// <summary>Who wants the pages of RAM as well.</summary>
    internal RamImage? Pages { get; init; }

    public override void OnConfiguration(StreamConfiguration configuration)
    {
        contents.Configuration = configuration;
        if (configuration.PageBits is { } bits)
        {
            contents.PageSize = 1L << bits;
        }
    }

    public override void OnSectionStart(StreamSection section) => contents.Unfinished = section;

    public override void OnSectionData(StreamSection section, long offset, ReadOnlySpan<byte> data)
    {
        if (spoolEverything || section.Kind == SectionKind.Full)
        {
            spool?.Append(offset, data);
        }
    }

    public override void OnVfioMarker(StreamSection section, VfioMarker marker, long offset, long dataLength)
    {
        if (marker == VfioMarker.DataState)
        {
            contents.Budget.Take(BytesPerVfioBlock, "the list of VFIO data");
            contents.VfioData.Add(new VfioBlock(section.Id, offset + VfioMarkerCodec.DataHeadSize, dataLength));
        }
    }

    public override void OnSectionEnd(StreamSection section, long bodyLength)
    {
        contents.Unfinished = null;
        if (section.Kind == SectionKind.Part && contents.Sections.Count >= MaxListedSections)
        {
            contents.SectionsOmitted++;
            return;
        }

        contents.Budget.Take(BytesPerSection, "the list of sections");
        contents.Sections.Add(new SectionContents(section, bodyLength));
    }

    public override void OnRamBlock(RamBlock block)
    {
        contents.Budget.Take(BytesPerBlock, "the list of RAM blocks");
        contents.Ram.Add(new RamBlockContents(block, contents.PageSize, contents.Budget));
        Pages?.SetPageSize(contents.PageSize);
        Pages?.OnRamBlock(block);
    }

    public override void OnPageSize(int pageSize)
    {
        Pages?.SetPageSize(pageSize);
        contents.SetPageSize(pageSize);
    }

    public override void OnNoFooters() => contents.HasFooters = false;

    public override void OnSectionEndFound(StreamSection section, bool isCertain)
    {
        if (!contents.HasFooters)
        {
            contents.EndsFound++;
            contents.IsEndUncertain |= !isCertain;
        }
    }

    public override void OnRamPage(RamBlock block, long pageOffset, RamPageKind kind, ReadOnlySpan<byte> data)
    {
        var ram = contents.Ram[block.Index];
        switch (kind)
        {
            case RamPageKind.Normal:
                ram.Normal++;
                break;
            case RamPageKind.Fill when data[0] == 0:
                ram.Zero++;
                break;
            case RamPageKind.Fill:
                ram.Filled++;
                break;
            case RamPageKind.Xbzrle:
                ram.Xbzrle++;
                break;
            default:
                ram.Compressed++;
                break;
        }

        ram.NoteOrder(pageOffset, kind);
        if (ram.Map.Mark(pageOffset / contents.PageSize))
        {
            ram.Again++;
        }

        Pages?.OnRamPage(block, pageOffset, kind, data);
    }

    public override void OnRamBitmap(RamBlock block, long firstPage, ReadOnlySpan<byte> bitmap)
    {
        var ram = contents.Ram[block.Index];
        long before = ram.Map.Seen;
        ram.Map.MarkBitmap(bitmap);
        ram.Normal += ram.Map.Seen - before;
        if (ram.Map.Seen > ram.Map.Pages)
        {
            throw WalkContext.Failure(StreamError.InvalidRam, contents.Unfinished, block.BitmapOffset!.Value,
                $"The bitmap of RAM block '{block.Name}' has more pages than the block");
        }
    }

    public override void OnMultifdFlush(long offset)
    {
        contents.MultifdFlushes++;
        Pages?.OnMultifdFlush(offset);
    }

    public override void OnCommand(StreamCommand command)
    {
        if (contents.Commands.Count >= MaxListedCommands)
        {
            contents.CommandsOmitted++;
            return;
        }

        contents.Budget.Take(100 + command.Data.Length, "the list of commands");
        contents.Commands.Add(command);
    }

    public override void OnEof(long offset) => contents.ReachedEof = true;

    public override void OnDescriptionStart(long offset, int length)
    {
        contents.DescriptionOffset = offset;
        contents.Budget.Take(length, "the stream's description");
        _json = new byte[length];
    }

    public override void OnDescriptionData(ReadOnlySpan<byte> data)
    {
        data.CopyTo(_json.AsSpan(_jsonLength));
        _jsonLength += data.Length;
        if (_jsonLength == _json.Length)
        {
            contents.DescriptionJson = _json;
        }
    }

    public override void OnTrailingData(long offset, ReadOnlySpan<byte> data) => contents.TrailingBytes += data.Length;
}
