using System.Text;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Interop.Tests.SaveVm;

/// <summary>QEMU's "globalstate" made or read by us: what the machine did when it was stopped, by which the target decides whether it runs.</summary>
internal sealed class GlobalState(string state = "") : ISaveVmHandlers
{
    internal const string IdStr = "globalstate";

    private const int Length = 100;

    internal string Loaded { get; private set; } = "";

    public void SaveState(SaveVmSaveStream stream, SaveVmContext context)
    {
        byte[] text = new byte[Length];
        stream.WriteUInt32((uint)Encoding.ASCII.GetBytes(state, text) + 1);
        stream.WriteBytes(text);
    }

    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId)
    {
        int length = (int)stream.ReadUInt32();
        Loaded = Encoding.ASCII.GetString(stream.ReadBytes(Length), 0, length - 1);
    }
}

/// <summary>
/// RAM of our own making, in the words of QEMU's RAM sections: the blocks, then pages in an order that QEMU never has - from the last to the
/// first, some of them wrong at first and right when the machine stands still.
/// </summary>
internal sealed class OwnRam(IReadOnlyList<RamBlock> blocks, IReadOnlyDictionary<(string Block, long Offset), byte[]> pages) : ISaveVmHandlers
{
    private const ulong Zero = 0x02;
    private const ulong MemorySize = 0x04;
    private const ulong Page = 0x08;
    private const ulong EndOfSection = 0x10;
    private const ulong Continue = 0x20;
    private const int PageSize = 4096;

    private static readonly byte[] s_wrong = [.. Enumerable.Repeat((byte)0xee, PageSize)];

    private readonly Stack<KeyValuePair<(string Block, long Offset), byte[]>> _left
        = new(pages.OrderBy(p => p.Key.Block, StringComparer.Ordinal).ThenBy(p => p.Key.Offset));

    private readonly List<KeyValuePair<(string Block, long Offset), byte[]>> _dirty = [];

    internal int Iterations { get; private set; }

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

    public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context)
    {
        Iterations++;
        string? last = null;
        for (int i = 0; i < 500 && _left.TryPop(out var page); i++)
        {
            bool wrong = i % 7 == 0;
            Put(stream, page.Key, wrong ? s_wrong : page.Value, ref last);
            if (wrong)
            {
                _dirty.Add(page);
            }
        }

        stream.WriteUInt64(EndOfSection);
        return _left.Count == 0;
    }

    public PendingBytes StatePendingEstimate(SaveVmContext context) => new(_left.Count * (long)PageSize);

    public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context)
    {
        string? last = null;
        foreach (var page in _dirty)
        {
            Put(stream, page.Key, page.Value, ref last);
        }

        stream.WriteUInt64(EndOfSection);
    }

    private static void Put(SaveVmSaveStream stream, (string Block, long Offset) key, byte[] data, ref string? last)
    {
        stream.WriteUInt64((ulong)key.Offset | (data.Length == 1 ? Zero : Page) | (last == key.Block ? Continue : 0));
        if (last != key.Block)
        {
            Name(stream, last = key.Block);
        }

        stream.WriteBytes(data);
    }

    private static void Name(SaveVmSaveStream stream, string name)
    {
        stream.WriteByte((byte)name.Length);
        stream.Write(Encoding.ASCII.GetBytes(name));
    }
}
