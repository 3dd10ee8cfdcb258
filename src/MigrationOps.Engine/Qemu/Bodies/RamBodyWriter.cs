using System.Buffers;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Writes the bodies of RAM sections, what <see cref="RamBody"/> reads. Plain pages only.</summary>
internal static class RamBodyWriter
{
    /// <summary>The list of blocks.</summary>
    /// <param name="output">Gets the bytes.</param>
    /// <param name="blocks">The blocks in order.</param>
    /// <param name="withAddresses">True if the capability x-ignore-shared is on: each block has its guest address.</param>
    internal static void WriteBlocks(IBufferWriter<byte> output, IReadOnlyList<RamBlock> blocks, bool withAddresses)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteUInt64((ulong)blocks.Sum(b => b.Length) | RamBody.MemSize);
        foreach (var block in blocks)
        {
            writer.WriteByte(checked((byte)block.NameBytes.Length));
            writer.WriteBytes(block.NameBytes);
            writer.WriteUInt64((ulong)block.Length);
            if (withAddresses)
            {
                writer.WriteUInt64(block.Address ?? 0);
            }
        }

        WriteEnd(output);
    }

    /// <summary>A page with all its bytes.</summary>
    internal static void WritePage(IBufferWriter<byte> output, RamBlock block, long pageOffset, ReadOnlySpan<byte> page)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteUInt64((ulong)pageOffset | RamBody.Page);
        writer.WriteByte(checked((byte)block.NameBytes.Length));
        writer.WriteBytes(block.NameBytes);
        writer.WriteBytes(page);
    }

    /// <summary>The end of a section's body.</summary>
    internal static void WriteEnd(IBufferWriter<byte> output) => WireWriter.BigEndian(output).WriteUInt64(RamBody.EndOfSection);
}
