using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>Which block of guest memory to take out of a stream.</summary>
internal sealed record RamExportOptions
{
    /// <summary>The stream.</summary>
    public required MigrationStreamInput Input { get; init; }

    /// <summary>The block's name, such as pc.ram.</summary>
    public required string Block { get; init; }

    /// <summary>The file to write, or a folder.</summary>
    public required string Destination { get; init; }
}

/// <summary>
/// Writes a block of guest memory as it is when the whole stream has been loaded: later pages win. The file is sparse;
/// zero pages take no room.
/// </summary>
internal static class RamExporter
{
    /// <summary>Runs the export.</summary>
    /// <exception cref="StreamException">The stream is damaged, has no such block or not all of its pages.</exception>
    public static MigrationStreamExport Export(RamExportOptions options, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(scope);
        using var source = options.Input.Open(scope);
        string path = Directory.Exists(options.Destination)
            ? Path.Combine(options.Destination, options.Block.Replace('/', '_') + ".ram")
            : options.Destination;
        using var file = AtomicFile.Create(path, scope);
        var budget = new MemoryBudget(options.Input.MaxMemory);
        using var channels = new ChannelRam(source.Channels, budget, scope);
        var image = new RamImage((SafeFileHandle)file.Stream.Handle, options.Block, budget, channels);
        using var contents = MigrationStreamFile.Read(
            source, new StreamReadOptions { MaxMemory = options.Input.MaxMemory, Pages = image }, scope);
        MigrationStreams.ThrowIfUnreadable(contents);
        var ram = contents.Ram.Find(r => r.Block.Name == options.Block)
            ?? throw MigrationStreams.NotFound(contents, $"RAM block '{options.Block}' (it has {string.Join(", ", contents.Ram.Select(r => r.Block.Name))})");
        image.Finish(contents, ram, scope.CancellationToken);
        if (!ram.IsMapped && ram.Map.IsExact && ram.Map.Seen < ram.Map.Pages)
        {
            throw new StreamException(StreamError.NotSupported,
                $"The stream '{contents.Name}' has {ram.Map.Seen:N0} of {ram.Map.Pages:N0} pages of RAM block '{options.Block}'.",
                action: contents.HasCapability(StreamFormat.IgnoreSharedCapability)
                    ? "With x-ignore-shared the memory stays in its own file: take it from there."
                    : "Give the folder that has the recorded multifd channels as well.");
        }

        file.Commit();
        return new MigrationStreamExport
        {
            Source = options.Input.Path,
            Device = options.Block,
            Kind = "ram",
            Path = file.Path,
            Bytes = ram.Block.Length,
            Sha256 = null,
            Raw = true,
        };
    }
}

/// <summary>The memory of one block in a sparse file, as the stream's pages come.</summary>
/// <param name="file">Where the pages go.</param>
/// <param name="name">The block's name.</param>
/// <param name="budget">For the map of what was written.</param>
/// <param name="channels">The pages of multifd channels.</param>
/// <param name="wanted">Which pages, by their offset in the block; null for all.</param>
internal sealed class RamImage(SafeFileHandle file, string name, MemoryBudget budget, ChannelRam channels, IReadOnlySet<long>? wanted = null) : StreamVisitor
{
    private const int CopyLength = 1 << 20;

    private readonly byte[] _zero = new byte[StreamFormat.MaxPageSize];
    private PageMap? _written;
    private RamBlock? _block;
    private int _pageSize;

    internal string Name => name;

    public override void OnRamBlock(RamBlock block)
    {
        if (block.Name == name)
        {
            _block = block;
            RandomAccess.SetLength(file, block.Length);
        }
    }

    public override void OnRamPage(RamBlock block, long pageOffset, RamPageKind kind, ReadOnlySpan<byte> data)
    {
        if (!ReferenceEquals(block, _block) || !IsWanted(pageOffset))
        {
            return;
        }

        switch (kind)
        {
            case RamPageKind.Normal:
                Write(pageOffset, data);
                break;
            case RamPageKind.Fill:
                Fill(pageOffset, data[0]);
                break;
            case RamPageKind.Xbzrle:
                var page = new byte[PageSize];
                RandomAccess.Read(file, page, pageOffset);
                Xbzrle.Apply(data, page, $"{name} 0x{pageOffset:x}");
                Write(pageOffset, page);
                break;
            default:
                Write(pageOffset, Inflate(data, pageOffset));
                break;
        }
    }

    public override void OnMultifdFlush(long offset) => channels.ApplyRound(this);

    /// <summary>Pages are the same size in a whole stream; the reader knows it once RAM begins.</summary>
    internal int PageSize => _pageSize != 0 ? _pageSize : throw new InvalidOperationException("The page size is set before pages come.");

    internal void SetPageSize(long pageSize)
    {
        _written?.Rescale(_block!.Length / pageSize, _pageSize, pageSize);
        _pageSize = (int)pageSize;
    }

    internal void Write(long pageOffset, ReadOnlySpan<byte> page)
    {
        if (!IsWanted(pageOffset))
        {
            return;
        }

        Written.Mark(pageOffset / PageSize);
        RandomAccess.Write(file, page, pageOffset);
    }

    internal void Fill(long pageOffset, byte value)
    {
        if (!IsWanted(pageOffset))
        {
            return;
        }

        // A page that has never been written is a hole and reads as zero.
        bool cameBefore = Written.Mark(pageOffset / PageSize) || !Written.IsExact;
        if (value != 0 || cameBefore)
        {
            var page = _zero.AsSpan(0, PageSize);
            page.Fill(value);
            RandomAccess.Write(file, page, pageOffset);
            page.Clear();
        }
    }

    internal void Finish(StreamContents contents, RamBlockContents ram, CancellationToken cancellationToken)
    {
        while (channels.ApplyRound(this))
        {
            cancellationToken.ThrowIfCancellationRequested();
        }

        if (ram.IsMapped)
        {
            CopyMapped(contents, ram.Block, cancellationToken);
        }
    }

    private bool IsWanted(long pageOffset) => wanted is null || wanted.Contains(pageOffset);

    private PageMap Written => _written ??= new PageMap(_block!.Length / PageSize, budget);

    private void CopyMapped(StreamContents contents, RamBlock block, CancellationToken cancellationToken)
    {
        if (contents.Bytes is not FileBytes bytes)
        {
            throw new StreamException(StreamError.NotSupported, "The pages of a mapped-ram stream are read by their place in a file, not from a pipe.",
                action: "Give the file itself.");
        }

        var bitmap = new byte[4096];
        var buffer = new byte[CopyLength];
        long pages = block.Length / PageSize;
        for (long first = 0; first < pages; first += bitmap.Length * 8)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int count = (int)Math.Min(bitmap.Length * 8L, pages - first);
            bytes.Read(block.BitmapOffset!.Value + (first / 8), bitmap.AsSpan(0, (count + 7) / 8));
            for (int i = 0; i < count;)
            {
                int run = 0;
                while (i + run < count && (run + 1) * PageSize <= buffer.Length && (bitmap[(i + run) / 8] >> ((i + run) & 7) & 1) != 0
                    && IsWanted((first + i + run) * PageSize))
                {
                    run++;
                }

                if (run > 0)
                {
                    var data = buffer.AsSpan(0, run * PageSize);
                    bytes.Read(block.PagesOffset!.Value + ((first + i) * PageSize), data);
                    RandomAccess.Write(file, data, (first + i) * PageSize);
                }

                i += Math.Max(1, run);
            }
        }
    }

    private byte[] Inflate(ReadOnlySpan<byte> data, long pageOffset)
    {
        var page = new byte[PageSize];
        try
        {
            using var zlib = new System.IO.Compression.ZLibStream(new MemoryStream(data.ToArray()), System.IO.Compression.CompressionMode.Decompress);
            zlib.ReadExactly(page);
            return page;
        }
        catch (Exception e) when (e is InvalidDataException or EndOfStreamException)
        {
            throw new StreamException(StreamError.InvalidRam, $"The compressed page 0x{pageOffset:x} of RAM block '{name}' cannot be decompressed: {e.Message}", e);
        }
    }
}
