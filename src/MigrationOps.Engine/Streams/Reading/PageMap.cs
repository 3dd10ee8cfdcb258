using System.Numerics;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Which pages of a RAM block have come, one bit each, in pieces that are made when they are needed: a block costs memory
/// by what came for it, not by what it claims to be. Out of budget it stops knowing, and says so.
/// </summary>
internal sealed class PageMap(long pages, MemoryBudget budget)
{
    private const int PieceShift = 15;
    private const int PieceBytes = (1 << PieceShift) / 8;

    private long _taken;
    private ulong[]?[]? _pieces;
    private ulong[]? _piece;
    private long _pieceIndex = -1;

    /// <summary>How many pages the block has.</summary>
    internal long Pages { get; private set; } = pages;

    /// <summary>How many different pages have come.</summary>
    internal long Seen { get; private set; }

    /// <summary>False once the budget did not allow to note a page.</summary>
    internal bool IsExact { get; private set; } = true;

    /// <summary>Notes a page.</summary>
    /// <returns>True if it had come before.</returns>
    internal bool Mark(long page)
    {
        if (page >> PieceShift != _pieceIndex && !Select(page >> PieceShift))
        {
            return false;
        }

        int bit = (int)(page & ((1 << PieceShift) - 1));
        ref ulong word = ref _piece![bit >> 6];
        ulong mask = 1UL << (bit & 63);
        if ((word & mask) != 0)
        {
            return true;
        }

        word |= mask;
        Seen++;
        return false;
    }

    /// <summary>Counts pages that a bitmap says have come; each page is in one bitmap only.</summary>
    internal void MarkBitmap(ReadOnlySpan<byte> bitmap)
    {
        foreach (byte b in bitmap)
        {
            Seen += BitOperations.PopCount(b);
        }
    }

    /// <summary>Counts in pages of another size from now on. The place of every page that has come is a multiple of both.</summary>
    internal void Rescale(long pages, long from, long to)
    {
        Pages = pages;
        if (_pieces is not { } old)
        {
            return;
        }

        budget.Return(_taken);
        (_pieces, _piece, _pieceIndex, _taken, Seen) = (null, null, -1, 0, 0);
        for (long i = 0; i < old.Length; i++)
        {
            for (int w = 0; w < (old[i]?.Length ?? 0); w++)
            {
                for (ulong word = old[i]![w]; word != 0; word &= word - 1)
                {
                    Mark(((i << PieceShift) + (w << 6) + BitOperations.TrailingZeroCount(word)) * from / to);
                }
            }
        }
    }

    private bool Take(long bytes)
    {
        bool taken = budget.TryTake(bytes);
        _taken += taken ? bytes : 0;
        return taken;
    }

    private bool Select(long index)
    {
        if (_pieces is null)
        {
            long count = (Pages >> PieceShift) + 1;
            if (!IsExact || count > int.MaxValue / 16 || !Take(count * 8))
            {
                return IsExact = false;
            }

            _pieces = new ulong[]?[count];
        }

        var piece = _pieces[index];
        if (piece is null)
        {
            if (!Take(PieceBytes + 32))
            {
                return IsExact = false;
            }

            piece = _pieces[index] = new ulong[PieceBytes / 8];
        }

        (_piece, _pieceIndex) = (piece, index);
        return true;
    }
}

/// <summary>A RAM block and what came for it.</summary>
internal sealed class RamBlockContents(RamBlock block, long pageSize, MemoryBudget budget)
{
    internal RamBlock Block { get; } = block;

    internal PageMap Map { get; } = new(block.Length / pageSize, budget);

    /// <summary>Counts in pages of another size from now on.</summary>
    internal void Rescale(long from, long to) => Map.Rescale(Block.Length / to, from, to);

    internal long Normal { get; set; }

    internal long Zero { get; set; }

    /// <summary>Pages filled with another byte than zero, which QEMU has not written for years.</summary>
    internal long Filled { get; set; }

    internal long Xbzrle { get; set; }

    internal long Compressed { get; set; }

    /// <summary>Pages that had come before.</summary>
    internal long Again { get; set; }

    /// <summary>Pages from multifd packets, among the others.</summary>
    internal long Multifd { get; set; }

    /// <summary>A hash over which page came when, and how: a page that was moved shows, though every page came.</summary>
    internal ulong Order { get; private set; } = 14695981039346656037;

    internal void NoteOrder(long pageOffset, RamPageKind kind) => Order = (Order ^ ((ulong)pageOffset | (uint)kind)) * 1099511628211;

    internal bool IsMapped => Block.PagesOffset is not null;

    internal long Received => Normal + Zero + Filled + Xbzrle + Compressed;
}
