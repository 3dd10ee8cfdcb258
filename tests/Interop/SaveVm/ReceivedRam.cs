using System.Text;

namespace MigrationOps.Interop.Tests.SaveVm;

/// <summary>A machine's RAM as a source of QEMU sends it, with pages that are discarded, come later, and are missing after a break.</summary>
internal sealed class ReceivedRam : ISaveVmHandlers, ISaveVmPages
{
    private const ulong Zero = 0x02;
    private const ulong MemorySize = 0x04;
    private const ulong Page = 0x08;
    private const ulong EndOfSection = 0x10;
    private const ulong Continue = 0x20;
    private const int PageSize = 4096;

    private readonly Dictionary<string, long> _blocks = [];
    private readonly Dictionary<(string Block, long Offset), byte[]> _pages = [];
    private string _last = "";

    /// <summary>True once the device runs.</summary>
    internal bool Running { get; set; }

    /// <summary>Pages that came while the device ran.</summary>
    internal int Late { get; private set; }

    /// <summary>Pages that were thrown away at the switch.</summary>
    internal int Discarded { get; private set; }

    /// <summary>The connection is given up when so many late pages have come.</summary>
    internal int? BreakAfter { get; set; }

    /// <summary>Eight bytes of the machine's main memory.</summary>
    internal ulong Read(long address)
    {
        byte[] page = _pages[(_blocks.MaxBy(b => b.Value).Key, address / PageSize * PageSize)];
        return page.Length == 1 ? 0 : BitConverter.ToUInt64(page, (int)(address % PageSize));
    }

    /// <summary>True if no page is missing.</summary>
    internal bool IsWhole => _blocks.Sum(b => b.Value) / PageSize == _pages.Count;

    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
    {
        for (ulong word = stream.ReadUInt64(); word != EndOfSection; word = stream.ReadUInt64())
        {
            ulong flags = word % PageSize;
            long offset = (long)(word - flags);
            if (flags == MemorySize)
            {
                ReadBlocks(stream, offset);
                continue;
            }

            Assert.True((flags & ~Continue) is Zero or Page, $"flags 0x{flags:x}");
            _last = (flags & Continue) != 0 ? _last : Name(stream);
            byte[] page = stream.ReadBytes((flags & Page) != 0 ? PageSize : 1);
            if (Running && Late == BreakAfter)
            {
                BreakAfter = null;
                throw new IOException("broken on purpose");
            }

            _pages[(_last, offset)] = page;
            Late += Running ? 1 : 0;
        }
    }

    public IEnumerable<SaveVmPages> StalePages(SaveVmContext context) => throw new InvalidOperationException("This is the target.");

    public bool RequestPages(SaveVmPages pages, SaveVmContext context) => throw new InvalidOperationException("This is the target.");

    public bool DiscardPages(SaveVmPages pages, SaveVmContext context)
    {
        for (ulong offset = pages.Start; offset < pages.Start + pages.Length; offset += PageSize)
        {
            Discarded += _pages.Remove((pages.Block, (long)offset)) ? 1 : 0;
        }

        return _blocks.ContainsKey(pages.Block);
    }

    public byte[]? ReceivedPages(string block, SaveVmContext context)
    {
        if (!_blocks.TryGetValue(block, out long length))
        {
            return null;
        }

        byte[] bitmap = new byte[(length / PageSize + 7) / 8];
        foreach (long page in _pages.Keys.Where(key => key.Block == block).Select(key => key.Offset / PageSize))
        {
            bitmap[page / 8] |= (byte)(1 << (int)(page % 8));
        }

        return bitmap;
    }

    private void ReadBlocks(SaveVmLoadStream stream, long total)
    {
        while (total > 0)
        {
            string name = Name(stream);
            long length = (long)stream.ReadUInt64();
            _blocks.Add(name, length);
            total -= length;
        }
    }

    private static string Name(SaveVmLoadStream stream) => Encoding.ASCII.GetString(stream.ReadBytes(stream.ReadByte()));
}

/// <summary>A device whose state is taken as it is, because its length is known.</summary>
internal sealed class OpaqueState(int length) : ISaveVmHandlers
{
    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId) => stream.ReadBytes(length);
}
