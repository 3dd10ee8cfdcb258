namespace MigrationOps.Engine.Qemu;

/// <summary>
/// What <see cref="StreamWalker"/> reports, in the order of the stream. Spans are valid during the call only. Offsets
/// count from the stream's first byte. Override what is of interest.
/// </summary>
internal abstract class StreamVisitor
{
    /// <summary>The CONFIGURATION section.</summary>
    public virtual void OnConfiguration(StreamConfiguration configuration)
    {
    }

    /// <summary>A section's header.</summary>
    public virtual void OnSectionStart(StreamSection section)
    {
    }

    /// <summary>Bytes of the body of a section other than RAM, in order and whole, in pieces of any size.</summary>
    public virtual void OnSectionData(StreamSection section, long offset, ReadOnlySpan<byte> data)
    {
    }

    /// <summary>A section's end.</summary>
    /// <param name="section">The section.</param>
    /// <param name="bodyLength">How many bytes its body had.</param>
    public virtual void OnSectionEnd(StreamSection section, long bodyLength)
    {
    }

    /// <summary>The stream has no footers, as those of machine types before 2.4; told once, before the first section ends.</summary>
    public virtual void OnNoFooters()
    {
    }

    /// <summary>A section's end was found by what follows it, for nothing in the stream says where it is.</summary>
    /// <param name="section">The section.</param>
    /// <param name="isCertain">False if the stream's own end had to do.</param>
    public virtual void OnSectionEndFound(StreamSection section, bool isCertain)
    {
    }

    /// <summary>A marker in a VFIO device's START, PART or END section; it and the data are in the section's data as well.</summary>
    /// <param name="section">The section.</param>
    /// <param name="marker">Which marker.</param>
    /// <param name="offset">Where the marker lies.</param>
    /// <param name="dataLength">For <see cref="VfioMarker.DataState"/>, how many bytes follow its 16-byte head; else 0.</param>
    public virtual void OnVfioMarker(StreamSection section, VfioMarker marker, long offset, long dataLength)
    {
    }

    /// <summary>Bytes of a VFIO device's state, without the markers around them; they are in the section's data as well.</summary>
    public virtual void OnVfioData(StreamSection section, ReadOnlySpan<byte> data)
    {
    }

    /// <summary>
    /// Bytes of a VFIO device's config state, both its markers included, in pieces, between <see cref="OnVfioMarker"/> of its first and its last
    /// marker; they are in the section's data as well.
    /// </summary>
    public virtual void OnVfioConfig(StreamSection section, ReadOnlySpan<byte> data)
    {
    }

    /// <summary>A block of the RAM block list.</summary>
    public virtual void OnRamBlock(RamBlock block)
    {
    }

    /// <summary>
    /// The size of the target's pages, if it is not the one assumed so far; before the page that shows it. It may come again
    /// while there are only pages that stand for themselves: their offsets are right whatever the size.
    /// </summary>
    public virtual void OnPageSize(int pageSize)
    {
    }

    /// <summary>A page of RAM.</summary>
    /// <param name="block">Its block.</param>
    /// <param name="pageOffset">Its offset in the block.</param>
    /// <param name="kind">How it is stored.</param>
    /// <param name="data">The page, the fill byte, or the encoded bytes.</param>
    public virtual void OnRamPage(RamBlock block, long pageOffset, RamPageKind kind, ReadOnlySpan<byte> data)
    {
    }

    /// <summary>A piece of a mapped-ram bitmap of written pages.</summary>
    /// <param name="block">The block.</param>
    /// <param name="firstPage">The page of the first bit.</param>
    /// <param name="bitmap">Little-endian words, bit 0 first.</param>
    public virtual void OnRamBitmap(RamBlock block, long firstPage, ReadOnlySpan<byte> bitmap)
    {
    }

    /// <summary>A multifd flush point in a RAM section: the target waits there until each channel has had a SYNC packet for it.</summary>
    /// <param name="offset">Where the word for it lies.</param>
    public virtual void OnMultifdFlush(long offset)
    {
    }

    /// <summary>A command. For PACKAGED the stream in the stream follows, then <see cref="OnPackageEnd"/>.</summary>
    public virtual void OnCommand(StreamCommand command)
    {
    }

    /// <summary>The end of a PACKAGED stream.</summary>
    public virtual void OnPackageEnd(long offset)
    {
    }

    /// <summary>The EOF byte.</summary>
    public virtual void OnEof(long offset)
    {
    }

    /// <summary>The description starts.</summary>
    /// <param name="offset">Where its type byte lies.</param>
    /// <param name="length">How many bytes of JSON follow.</param>
    public virtual void OnDescriptionStart(long offset, int length)
    {
    }

    /// <summary>A piece of the description.</summary>
    public virtual void OnDescriptionData(ReadOnlySpan<byte> data)
    {
    }

    /// <summary>Bytes after the stream's end.</summary>
    public virtual void OnTrailingData(long offset, ReadOnlySpan<byte> data)
    {
    }
}
