using System.Buffers.Binary;
using System.Text;
using System.Text.Json;

namespace MigrationOps.Engine.Multifd;

/// <summary>
/// Finds, among states of devices that have no lengths, the sections whose names are known and the end of the stream:
/// a footer, the end mark, and QEMU's description, which is JSON with a length before it.
/// </summary>
internal sealed class StreamTail
{
    private const byte FooterType = 0x7e;
    private const byte DescriptionType = 6;
    private const int FooterSize = 5;
    private const int DescriptionHeaderSize = 5;
    private const int LargestDescription = 16 * 1024 * 1024;
    private const int VersionSize = 4;

    private (byte[] Header, uint Id)[] _watched = [];
    private int _longest = FooterSize + 1 + DescriptionHeaderSize + 1;

    internal readonly record struct Found(bool IsEnd, uint SectionId);

    /// <summary>Looks for the FULL sections of these devices.</summary>
    internal void Watch(IEnumerable<SectionInfo> sections)
    {
        _watched = [.. sections.Select(s => (FullHeader(s), s.Id))];
        _longest = Math.Max(_longest, _watched.Select(w => w.Header.Length + VersionSize).DefaultIfEmpty().Max());
    }

    /// <summary>Looks for the next known thing.</summary>
    /// <param name="data">What has arrived.</param>
    /// <param name="found">What was found; its header (or, at the end, all of it) is among the bytes used.</param>
    /// <param name="wanted">Bytes that must be there for the next step.</param>
    /// <returns>Bytes used.</returns>
    internal int Find(ReadOnlySpan<byte> data, out Found? found, out int wanted)
    {
        found = null;
        wanted = data.Length + 1;
        int section = -1, best = data.Length;
        for (int i = 0; i < _watched.Length; i++)
        {
            int at = data.IndexOf(_watched[i].Header);
            if (at >= 0 && at < best)
            {
                (best, section) = (at, i);
            }
        }

        int end = FindEnd(data[..best], data, out int size, out bool pending);
        if (end >= 0)
        {
            if (pending)
            {
                wanted = size + FooterSize + 1;
                return end;
            }

            found = new Found(true, 0);
            return end + FooterSize + 1 + size;
        }

        if (section >= 0)
        {
            int length = _watched[section].Header.Length + VersionSize;
            if (data.Length < best + length)
            {
                wanted = length;
                return best;
            }

            found = new Found(false, _watched[section].Id);
            return best + length;
        }

        return Math.Max(0, data.Length - (_longest - 1));
    }

    /// <summary>The length of a description at the start of the bytes, header included; 0 if too few are there.</summary>
    internal static int DescriptionSize(ReadOnlySpan<byte> data, out bool isOne)
    {
        isOne = data.IsEmpty || data[0] == DescriptionType;
        if (!isOne || data.Length <= DescriptionHeaderSize)
        {
            return 0;
        }

        uint length = BinaryPrimitives.ReadUInt32BigEndian(data[1..]);
        isOne = data[DescriptionHeaderSize] == '{' && length is > 1 and <= LargestDescription;
        if (!isOne)
        {
            return 0;
        }

        int size = DescriptionHeaderSize + (int)length;
        isOne = data.Length < size || IsDescription(data[DescriptionHeaderSize..size]);
        return size;
    }

    private static int FindEnd(ReadOnlySpan<byte> range, ReadOnlySpan<byte> data, out int size, out bool pending)
    {
        ReadOnlySpan<byte> mark = [(byte)SectionKind.End, DescriptionType];
        int from = FooterSize;
        while (from < range.Length)
        {
            int at = range[from..].IndexOf(mark);
            if (at < 0)
            {
                break;
            }

            at += from;
            int start = at - FooterSize;
            size = DescriptionSize(data[(at + 1)..], out bool isOne);
            // Fewer bytes than a header: the caller keeps them and comes back with more.
            if (isOne && size > 0 && data[start] == FooterType)
            {
                pending = data.Length < at + 1 + size;
                return start;
            }

            from = at + 1;
        }

        size = 0;
        pending = false;
        return -1;
    }

    private static bool IsDescription(ReadOnlySpan<byte> json)
    {
        try
        {
            var reader = new Utf8JsonReader(json);
            bool devices = false;
            while (reader.Read())
            {
                devices |= reader.CurrentDepth == 1 && reader.TokenType == JsonTokenType.PropertyName
                    && reader.ValueTextEquals("devices"u8);
            }

            return devices;
        }
        catch (JsonException)
        {
            // Bytes of a device that look like the beginning of a description.
            return false;
        }
    }

    private static byte[] FullHeader(SectionInfo section)
    {
        byte[] name = Encoding.UTF8.GetBytes(section.IdStr);
        byte[] header = new byte[1 + 4 + 1 + name.Length + 4];
        header[0] = (byte)SectionKind.Full;
        BinaryPrimitives.WriteUInt32BigEndian(header.AsSpan(1), section.Id);
        header[5] = (byte)name.Length;
        name.CopyTo(header, 6);
        BinaryPrimitives.WriteUInt32BigEndian(header.AsSpan(6 + name.Length), section.InstanceId);
        return header;
    }
}
