using System.IO.Compression;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Reads single words of guest memory as they are when the whole stream has been loaded. Which pages are wanted is known only at
/// the stream's end, so that it is walked once more for them; each takes memory of one page.
/// </summary>
internal sealed class GuestMemory : StreamVisitor
{
    // What a stream may make us remember: the rings of a few thousand queues.
    private const int MaxPages = 8192;

    private readonly StreamContents _contents;
    private readonly GuestLayout _layout;
    private readonly Dictionary<(int Block, long Page), byte[]?> _pages = [];

    internal GuestMemory(StreamContents contents)
    {
        _contents = contents;
        _layout = GuestLayout.OfMachineType(contents);
    }

    /// <summary>Why words cannot be read here; null if they can.</summary>
    internal string? Obstacle => _layout.Obstacle
        ?? (_contents.MultifdFlushes > 0 || _contents.Channels.Count > 0 ? "pages travelled over multifd channels" : null);

    /// <summary>Asks for the page of a guest-physical address, before the stream is walked.</summary>
    /// <returns>False if no memory of the stream lies there.</returns>
    internal bool RequestPage(ulong address)
    {
        if (_layout.Find(address) is not { } place || _pages.Count >= MaxPages)
        {
            return false;
        }

        _pages.TryAdd((place.Block.Index, place.Offset / _contents.PageSize), null);
        return true;
    }

    /// <summary>A little-endian integer of a page that was asked for; null if the stream does not have the page.</summary>
    internal ushort? ReadWord(ulong address)
    {
        if (_layout.Find(address) is not { } place)
        {
            return null;
        }

        long offset = place.Offset;
        if (place.Block.PagesOffset is { } pages)
        {
            return ReadMapped(place.Block, pages, offset);
        }

        int at = (int)(offset % _contents.PageSize);
        return _pages.GetValueOrDefault((place.Block.Index, offset / _contents.PageSize)) is { } page && at + 1 < page.Length
            ? (ushort)(page[at] | page[at + 1] << 8) : null;
    }

    public override void OnRamPage(RamBlock block, long pageOffset, RamPageKind kind, ReadOnlySpan<byte> data)
    {
        var key = (block.Index, pageOffset / _contents.PageSize);
        if (!_pages.TryGetValue(key, out byte[]? page))
        {
            return;
        }

        if (page is null)
        {
            _contents.Budget.Take(_contents.PageSize, "pages that hold virtqueues");
            _pages[key] = page = new byte[_contents.PageSize];
        }

        switch (kind)
        {
            case RamPageKind.Normal:
                data.CopyTo(page);
                break;
            case RamPageKind.Fill:
                page.AsSpan().Fill(data[0]);
                break;
            case RamPageKind.Xbzrle:
                Xbzrle.Apply(data, page, $"{block.Name} 0x{pageOffset:x}");
                break;
            default:
                using (var zlib = new ZLibStream(new MemoryStream(data.ToArray()), CompressionMode.Decompress))
                {
                    if (zlib.ReadAtLeast(page, page.Length, throwOnEndOfStream: false) < page.Length)
                    {
                        throw new StreamException(StreamError.InvalidRam,
                            $"The compressed page {block.Name} 0x{pageOffset:x} is shorter than a page.")
                        { Section = "ram" };
                    }
                }

                break;
        }
    }

    private ushort? ReadMapped(RamBlock block, long pages, long offset)
    {
        if (_contents.Bytes is not FileBytes bytes)
        {
            return null;
        }

        Span<byte> word = stackalloc byte[2];
        long page = offset / _contents.PageSize;
        bytes.Read(block.BitmapOffset!.Value + (page / 8), word[..1]);
        if ((word[0] >> (int)(page & 7) & 1) == 0)
        {
            return 0;
        }

        bytes.Read(pages + offset, word);
        return (ushort)(word[0] | word[1] << 8);
    }
}
