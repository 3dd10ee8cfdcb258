using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Interop.Tests.SaveVm;

/// <summary>A machine's RAM that follows only after the switch to postcopy: no page of it is there when the target starts to run.</summary>
internal sealed class PostcopyRam(IReadOnlyList<RamBlock> blocks, IReadOnlyDictionary<(string Block, long Offset), byte[]> pages) : ISaveVmHandlers, ISaveVmPages
{
    private const ulong Zero = 0x02;
    private const ulong MemorySize = 0x04;
    private const ulong Page = 0x08;
    private const ulong EndOfSection = 0x10;
    private const int PageSize = 4096;

    private readonly Lock _gate = new();
    private readonly Queue<(string Block, long Offset)> _wanted = [];
    private readonly HashSet<(string Block, long Offset)> _left = [.. pages.Keys];

    /// <summary>Pages that the target waited for.</summary>
    internal int Requested { get; private set; }

    /// <summary>Pages that were sent.</summary>
    internal int Sent { get; private set; }

    /// <summary>Pages that were found to have arrived when the migration was resumed.</summary>
    internal int Arrived { get; private set; }

    /// <summary>Until it says yes, only pages are sent that the target asks for.</summary>
    internal Func<bool> MayPush { get; set; } = () => true;

    /// <summary>The connection is broken when so many pages have been sent.</summary>
    internal int? BreakAfter { get; set; }

    public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context)
    {
        stream.WriteUInt64((ulong)blocks.Sum(b => b.Length) | MemorySize);
        foreach (var block in blocks)
        {
            Name(stream, block.Name);
            stream.WriteUInt64((ulong)block.Length);
        }

        stream.WriteUInt64(EndOfSection);
    }

    public bool HasPostcopy(SaveVmContext context) => true;

    public PendingBytes StatePendingEstimate(SaveVmContext context) => new(0, _left.Count * (long)PageSize);

    public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
    {
        while (TryTake(out var page))
        {
            Put(stream, page);
        }

        if (MayPush())
        {
            foreach (var page in _left.Take(100).ToArray())
            {
                Put(stream, page);
            }
        }

        stream.WriteUInt64(EndOfSection);
        return _left.Count == 0;
    }

    public void SaveLiveCompletePostcopy(SaveVmSaveStream stream, SaveVmContext context)
    {
        foreach (var page in _left.ToArray())
        {
            Put(stream, page);
        }

        stream.WriteUInt64(EndOfSection);
    }

    public void ResumePrepare(SaveVmContext context)
    {
        _left.Clear();
        foreach (var block in blocks)
        {
            byte[] bitmap = context.ReadReceivedPages(block.Name);
            bool Has(long offset) => (bitmap[offset / PageSize / 8] & (1 << (int)(offset / PageSize % 8))) != 0;
            var keys = pages.Keys.Where(key => key.Block == block.Name).ToList();
            Arrived += keys.Count(key => Has(key.Offset));
            _left.UnionWith(keys.Where(key => !Has(key.Offset)));
        }
    }

    // All of it is still to come, as a source of QEMU says of every page that is dirty.
    public IEnumerable<SaveVmPages> StalePages(SaveVmContext context) => blocks.Select(block => new SaveVmPages(block.Name, 0, (ulong)block.Length));

    public bool RequestPages(SaveVmPages wanted, SaveVmContext context)
    {
        if (!blocks.Any(block => block.Name == wanted.Block))
        {
            return false;
        }

        lock (_gate)
        {
            Requested++;
            for (ulong offset = 0; offset < wanted.Length; offset += PageSize)
            {
                _wanted.Enqueue((wanted.Block, (long)(wanted.Start + offset)));
            }
        }

        return true;
    }

    public bool DiscardPages(SaveVmPages stale, SaveVmContext context) => throw new InvalidOperationException("This is the source.");

    public byte[] ReceivedPages(string block, SaveVmContext context) => throw new InvalidOperationException("This is the source.");

    private bool TryTake(out (string Block, long Offset) page)
    {
        lock (_gate)
        {
            return _wanted.TryDequeue(out page);
        }
    }

    private void Put(SaveVmSaveStream stream, (string Block, long Offset) key)
    {
        if (!_left.Remove(key))
        {
            return;
        }

        if (Sent == BreakAfter)
        {
            BreakAfter = null;
            throw new IOException("broken on purpose");
        }

        Sent++;
        byte[] data = pages[key];
        stream.WriteUInt64((ulong)key.Offset | (data.Length == 1 ? Zero : Page));
        Name(stream, key.Block);
        stream.WriteBytes(data);
    }

    private static void Name(SaveVmSaveStream stream, string name)
    {
        stream.WriteByte((byte)name.Length);
        stream.Write(Encoding.ASCII.GetBytes(name));
    }
}
