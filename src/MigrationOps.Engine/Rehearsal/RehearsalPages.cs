using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Rehearsal;

/// <summary>The few pages of guest memory that a rehearsal without memory gives to QEMU.</summary>
internal sealed class RehearsalPages
{
    // Small blocks are ROMs; the first MiB has the firmware's tables and, on x86, option ROMs that kvmvapic looks into.
    private const long AlwaysGiven = 1 << 20;

    private readonly List<(RamBlock Block, long Offset, byte[] Data)> _pages = [];

    /// <summary>The pages, each once.</summary>
    internal IReadOnlyList<(RamBlock Block, long Offset, byte[] Data)> Pages => _pages;

    /// <summary>What of them is not in the stream.</summary>
    internal List<string> Notes { get; } = [];

    /// <summary>Takes the pages at guest addresses out of a stream, whatever form its memory has.</summary>
    internal static RehearsalPages Read(MigrationStreamInput input, StreamContents contents, GuestLayout layout, IEnumerable<ulong> addresses, TransferScope scope)
    {
        var result = new RehearsalPages();
        var wanted = new Dictionary<RamBlock, SortedSet<long>>();
        foreach (var block in contents.Ram.Select(r => r.Block).Where(b => !IsElsewhere(contents, b)))
        {
            wanted[block] = [];
            for (long offset = 0; offset < Math.Min(block.Length, AlwaysGiven); offset += contents.PageSize)
            {
                wanted[block].Add(offset);
            }
        }

        foreach (ulong address in addresses)
        {
            if (layout.Find(address) is not var (block, offset))
            {
                result.Notes.Add($"The guest address 0x{address:x}, where a device has a queue, is not in the memory of the VM here.");
            }
            else if (IsElsewhere(contents, block))
            {
                result.Notes.Add($"The memory of RAM block {block.Name} is not in the stream (x-ignore-shared): the queues of a guest that ran cannot be checked.");
            }
            else
            {
                wanted[block].Add(offset / contents.PageSize * contents.PageSize);
            }
        }

        foreach (var (block, offsets) in wanted.Where(w => w.Value.Count > 0))
        {
            result.ReadBlock(input, block, offsets, contents.PageSize, scope);
        }

        return result;
    }

    // With x-ignore-shared every block has its address; those that are shared have no pages.
    private static bool IsElsewhere(StreamContents contents, RamBlock block)
        => contents.HasCapability(StreamFormat.IgnoreSharedCapability) && block.Address is not null && contents.Ram[block.Index].Received == 0;

    private void ReadBlock(MigrationStreamInput input, RamBlock block, SortedSet<long> offsets, long pageSize, TransferScope scope)
    {
        string path = Path.Combine(Path.GetTempPath(), $"migrationops-{Guid.NewGuid():N}.pages");
        using var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None);
        File.Delete(path);
        var budget = new MemoryBudget(input.MaxMemory);
        using var bounds = scope.Nest();
        using var source = input.Open(bounds);
        using var channels = new ChannelRam(source.Channels, budget, bounds);
        var image = new RamImage(file, block.Name, budget, channels, offsets);
        using var contents = MigrationStreamFile.Read(source, new StreamReadOptions { MaxMemory = input.MaxMemory, Pages = image }, bounds);
        if (contents.Ram.Find(r => r.Block.Name == block.Name) is { } ram)
        {
            image.Finish(contents, ram, bounds.CancellationToken);
        }

        foreach (long offset in offsets)
        {
            // A page that is missing is zero, as it is in QEMU.
            byte[] page = new byte[pageSize];
            RandomAccess.Read(file, page, offset);
            _pages.Add((block, offset, page));
        }
    }
}
