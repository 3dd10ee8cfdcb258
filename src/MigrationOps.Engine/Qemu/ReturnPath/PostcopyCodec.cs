using System.Buffers;
using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>The data of postcopy's commands and messages, without I/O.</summary>
internal static class PostcopyCodec
{
    /// <summary>How many ranges QEMU puts into one POSTCOPY_RAM_DISCARD.</summary>
    internal const int RangesPerDiscard = 12;

    /// <summary>What a target says in RESUME_ACK.</summary>
    internal const uint Resumed = 1;

    /// <summary>The PING before the package; its PONG says that everything before it has been loaded.</summary>
    internal const uint BeforePackage = 2;

    /// <summary>The PING that the source sends before RUN, inside the package; its PONG says that the package is loaded.</summary>
    internal const uint PackageLoaded = 3;

    /// <summary>
    /// The PING at the end of a package of QEMU 10.2 and newer. A source whose connection breaks before it has the PONG runs its device again.
    /// </summary>
    internal const uint PackageLoadedOrResume = 0x42;

    /// <summary>The bytes of POSTCOPY_RUN, the last ones of a package.</summary>
    internal const int RunLength = 5;

    /// <summary>The mark behind a bitmap on the return path.</summary>
    private const ulong BitmapEnd = 0x0123456789abcdef;

    /// <summary>The longest bitmap that is read: of 2 TiB in pages of 4 KiB.</summary>
    private const int MaxBitmap = 64 << 20;

    private const byte DiscardVersion = 0;

    /// <summary>POSTCOPY_ADVISE: all page sizes of the RAM, and the target page size; nothing where there is no RAM.</summary>
    internal static byte[] Advice(long? ramPageSizes, int pageSize)
    {
        if (ramPageSizes is not { } sizes)
        {
            return [];
        }

        var output = new ArrayBufferWriter<byte>(16);
        var writer = WireWriter.BigEndian(output);
        writer.WriteUInt64((ulong)sizes);
        writer.WriteUInt64((ulong)pageSize);
        return output.WrittenSpan.ToArray();
    }

    /// <summary>Reads the whole data of POSTCOPY_ADVISE; null where there is no RAM.</summary>
    internal static (ulong RamPageSizes, ulong PageSize)? ParseAdvice(ReadOnlySpan<byte> data)
    {
        var reader = WireReader.BigEndian(data);
        return reader.TryReadUInt64(out ulong sizes) && reader.TryReadUInt64(out ulong page) ? (sizes, page) : null;
    }

    /// <summary>POSTCOPY_RAM_DISCARD for ranges of one block.</summary>
    internal static byte[] Discard(string block, IEnumerable<SaveVmPages> ranges)
    {
        var output = new ArrayBufferWriter<byte>();
        var writer = WireWriter.BigEndian(output);
        writer.WriteByte(DiscardVersion);
        WriteName(ref writer, block);
        writer.WriteByte(0);
        foreach (var range in ranges)
        {
            writer.WriteUInt64(range.Start);
            writer.WriteUInt64(range.Length);
        }

        return output.WrittenSpan.ToArray();
    }

    /// <summary>Reads the whole data of POSTCOPY_RAM_DISCARD; null if it is none.</summary>
    internal static List<SaveVmPages>? ParseDiscard(ReadOnlySpan<byte> data)
    {
        var reader = WireReader.BigEndian(data);
        if (!reader.TryReadByte(out byte version) || version != DiscardVersion || TryReadName(ref reader) is not { } block
            || !reader.TryReadByte(out byte nil) || nil != 0 || reader.Remaining % 16 != 0)
        {
            return null;
        }

        var ranges = new List<SaveVmPages>();
        while (reader.TryReadUInt64(out ulong start) && reader.TryReadUInt64(out ulong length))
        {
            ranges.Add(new SaveVmPages(block, start, length));
        }

        return ranges;
    }

    /// <summary>A block's name alone, as RECV_BITMAP carries it both ways.</summary>
    internal static byte[] Name(string block)
    {
        var output = new ArrayBufferWriter<byte>();
        var writer = WireWriter.BigEndian(output);
        WriteName(ref writer, block);
        return output.WrittenSpan.ToArray();
    }

    /// <summary>Reads a block's name that fills its data; null if it does not.</summary>
    internal static string? ParseName(ReadOnlySpan<byte> data)
    {
        var reader = WireReader.BigEndian(data);
        return TryReadName(ref reader) is { } name && reader.Remaining == 0 ? name : null;
    }

    /// <summary>REQ_PAGES_ID, or REQ_PAGES where the block is the one of the message before.</summary>
    internal static byte[] Request(SaveVmPages pages, bool sameBlock)
    {
        var output = new ArrayBufferWriter<byte>();
        var writer = WireWriter.BigEndian(output);
        writer.WriteUInt64(pages.Start);
        writer.WriteUInt32(checked((uint)pages.Length));
        if (!sameBlock)
        {
            WriteName(ref writer, pages.Block);
        }

        return output.WrittenSpan.ToArray();
    }

    /// <summary>Reads either; null if the data does not fit.</summary>
    /// <param name="data">The message's data.</param>
    /// <param name="lastBlock">The block that a message without a name means; null if none came yet.</param>
    internal static SaveVmPages? ParseRequest(ReadOnlySpan<byte> data, string? lastBlock)
    {
        var reader = WireReader.BigEndian(data);
        if (!reader.TryReadUInt64(out ulong start) || !reader.TryReadUInt32(out uint length))
        {
            return null;
        }

        string? block = reader.Remaining == 0 ? lastBlock : TryReadName(ref reader);
        return block is not null && reader.Remaining == 0 ? new SaveVmPages(block, start, length) : null;
    }

    /// <summary>A whole RECV_BITMAP of the return path: its message, and the bitmap behind it.</summary>
    internal static byte[] Bitmap(string block, ReadOnlySpan<byte> bitmap)
    {
        byte[] name = Name(block);
        int size = (bitmap.Length + 7) / 8 * 8;
        var output = new ArrayBufferWriter<byte>(size + 32);
        var writer = WireWriter.BigEndian(output);
        writer.WriteBytes(new ReturnPathMessage(ReturnPathMessageType.ReceivedBitmap, name).ToArray());
        writer.WriteUInt64((ulong)size);
        writer.WriteBytes(bitmap);
        writer.WriteBytes(new byte[size - bitmap.Length]);
        writer.WriteUInt64(BitmapEnd);
        return output.WrittenSpan.ToArray();
    }

    /// <summary>Reads the length of the bitmap behind RECV_BITMAP.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidReturnPath"/>.</exception>
    internal static bool TryReadBitmapLength(ref WireReader reader, string block, out long length)
    {
        long offset = reader.Offset;
        length = 0;
        if (!reader.TryReadUInt64(out ulong size))
        {
            return false;
        }

        length = size is 0 or > MaxBitmap || size % 8 != 0
            ? throw ReturnPathCodec.Invalid(offset, $"The bitmap of '{block}' announces {size:N0} bytes") : (long)size;
        return true;
    }

    /// <summary>Reads the mark behind a bitmap.</summary>
    /// <exception cref="StreamException"><see cref="StreamError.InvalidReturnPath"/>.</exception>
    internal static bool TryReadBitmapEnd(ref WireReader reader, string block)
    {
        long offset = reader.Offset;
        if (!reader.TryReadUInt64(out ulong mark))
        {
            return false;
        }

        return mark == BitmapEnd ? true : throw ReturnPathCodec.Invalid(offset, $"The bitmap of '{block}' does not end with its mark");
    }

    private static void WriteName(ref WireWriter writer, string block)
    {
        byte[] name = Encoding.UTF8.GetBytes(block);
        if (name.Length is 0 or > StreamText.MaxName)
        {
            throw new StreamException(StreamError.InvalidName, $"The block name '{block}' has {name.Length:N0} bytes; 1 to {StreamText.MaxName} are possible.")
            { Target = block };
        }

        writer.WriteByte((byte)name.Length);
        writer.WriteBytes(name);
    }

    private static string? TryReadName(ref WireReader reader)
    {
        if (!reader.TryReadByte(out byte length) || length == 0 || !reader.TryReadBytes(length, out var name))
        {
            return null;
        }

        return StreamText.IsName(name) ? Encoding.UTF8.GetString(name) : null;
    }
}
