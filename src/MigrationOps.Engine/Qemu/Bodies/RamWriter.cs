using System.Buffers;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Writes the words of "ram" sections, what <see cref="RamBody"/> reads.</summary>
internal static class RamWriter
{
    /// <summary>The list of blocks, which comes before all pages.</summary>
    internal static void List(IBufferWriter<byte> output, IReadOnlyList<RamBlock> blocks)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteUInt64((ulong)blocks.Sum(b => b.Length) | RamBody.MemSize);
        foreach (var block in blocks)
        {
            writer.WriteByte((byte)block.NameBytes.Length);
            writer.WriteBytes(block.NameBytes);
            writer.WriteUInt64((ulong)block.Length);
            if (block.Address is { } address)
            {
                writer.WriteUInt64(address);
            }
        }
    }

    /// <summary>A page, or the byte that fills it.</summary>
    /// <param name="output">Where it goes.</param>
    /// <param name="block">The block.</param>
    /// <param name="offset">Where the page lies in the block.</param>
    /// <param name="kind"><see cref="RamPageKind.Normal"/> or <see cref="RamPageKind.Fill"/>.</param>
    /// <param name="isSameBlock">True if the page before it in the section was of the same block.</param>
    /// <param name="data">The page or the byte.</param>
    internal static void Page(IBufferWriter<byte> output, RamBlock block, long offset, RamPageKind kind, bool isSameBlock, ReadOnlySpan<byte> data)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteUInt64((ulong)offset | (kind == RamPageKind.Normal ? RamBody.Page : RamBody.Zero) | (isSameBlock ? RamBody.Continue : 0));
        if (!isSameBlock)
        {
            writer.WriteByte((byte)block.NameBytes.Length);
            writer.WriteBytes(block.NameBytes);
        }

        writer.WriteBytes(data);
    }

    /// <summary>The end of a section's body.</summary>
    internal static void End(IBufferWriter<byte> output) => WireWriter.BigEndian(output).WriteUInt64(RamBody.EndOfSection);
}
