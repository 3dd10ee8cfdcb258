using System.Buffers.Binary;
using System.Text;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>A stream of QEMU's machine "none" with one thing changed, for our readers and for the real QEMU.</summary>
internal static class AlteredStream
{
    // The configuration "none" ends here; a subsection may be put behind it.
    private const int ConfigurationEnd = 17;

    private const byte Footer = 0x7e;

    /// <summary>The stream with one thing changed; the words say which.</summary>
    internal static byte[] Of(byte[] whole, string what)
    {
        byte[] stream = [.. whole];
        int footer = stream.AsSpan().IndexOf(new byte[] { Footer, 0, 0, 0, 1 });
        string[] parts = what.Split(' ');
        long number = long.TryParse(parts[^1], out long last) ? last : 0;
        switch (what)
        {
            case "whole":
                return stream;
            case "not a stream":
                stream[3] = (byte)'N';
                return stream;
            case "no footer mark":
                stream[footer] = 0x7f;
                return stream;
            case "footer of section 99":
                stream[footer + 4] = 99;
                return stream;
            case "empty machine type":
                stream[12] = 0;
                return [.. stream[..13], .. stream[ConfigurationEnd..]];
        }

        if (what.StartsWith("page bits", StringComparison.Ordinal))
        {
            // A stream without pages: those of the recorded one have 4 KiB.
            byte[] json = Encoding.ASCII.GetBytes($"{{\"page_size\":{1 << (int)number},\"devices\":[{{\"name\":\"d\",\"instance_id\":0,\"size\":1,\"fields\":[{{\"name\":\"data\",\"type\":\"buffer\",\"size\":1}}]}}]}}");
            return [.. stream[..ConfigurationEnd], .. Subsection("target-page-bits", 1, U32((uint)number)),
                4, .. U32(5), 1, (byte)'d', .. U32(0), .. U32(1), 0xaa, Footer, .. U32(5), 0, 6, .. U32((uint)json.Length), .. json];
        }

        byte[] inserted = what switch
        {
            _ when what.StartsWith("subsection version", StringComparison.Ordinal) => Subsection("uuid", (uint)number, new byte[16]),
            "unknown subsection" => Subsection("zzz", 1, []),
            _ when what.StartsWith("capabilities", StringComparison.Ordinal) => Subsection("capabilities", 1,
                [.. U32((uint)number), .. Enumerable.Repeat((byte[])[5, .. "x-zzz"u8], (int)Math.Min(number, 300)).SelectMany(b => b)]),
            "command 12" => [8, 0, 12, 0, 0],
            "ping of 3 bytes" => [8, 0, 2, 0, 3, 0, 0, 0],
            "section type 9" => [9],
            "package that is an end mark" => [8, 0, 7, 0, 4, .. U32(1), 0],
            "bytes behind the end mark of a package" => [8, 0, 7, 0, 4, .. U32(3), 0, 1, 2],
            _ => throw new ArgumentException(what),
        };
        return [.. stream[..ConfigurationEnd], .. inserted, .. stream[ConfigurationEnd..]];
    }

    private static byte[] Subsection(string name, uint version, byte[] body)
    {
        byte[] full = Encoding.ASCII.GetBytes("configuration/" + name);
        return [5, (byte)full.Length, .. full, .. U32(version), .. body];
    }

    private static byte[] U32(uint value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, value);
        return bytes;
    }
}
