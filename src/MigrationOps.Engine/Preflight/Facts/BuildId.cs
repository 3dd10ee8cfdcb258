using System.Buffers.Binary;

namespace MigrationOps.Engine.Preflight;

/// <summary>The build id of a program: the note NT_GNU_BUILD_ID that linkers put into ELF files, the same for every copy of a build.</summary>
internal static class BuildId
{
    private const int Header = 64;
    private const int ProgramHeader = 56;
    private const uint NoteSegment = 4;
    private const uint GnuBuildId = 3;
    private const int MostHeaders = 128;
    private const int MostNotes = 64 * 1024;

    /// <summary>The id in hex; null if the file has none, is no 64-bit little-endian ELF file, or cannot be read.</summary>
    internal static string? TryRead(string path)
    {
        try
        {
            using var file = File.OpenHandle(path);
            Span<byte> header = stackalloc byte[Header];
            if (RandomAccess.Read(file, header, 0) < Header || !header[..6].SequenceEqual("\u007fELF\u0002\u0001"u8))
            {
                return null;
            }

            long table = BinaryPrimitives.ReadInt64LittleEndian(header[32..]);
            int count = Math.Min((int)BinaryPrimitives.ReadUInt16LittleEndian(header[56..]), MostHeaders);
            byte[] segments = new byte[count * ProgramHeader];
            int read = RandomAccess.Read(file, segments, table);
            for (int at = 0; at + ProgramHeader <= read; at += ProgramHeader)
            {
                var segment = segments.AsSpan(at, ProgramHeader);
                long length = BinaryPrimitives.ReadInt64LittleEndian(segment[32..]);
                if (BinaryPrimitives.ReadUInt32LittleEndian(segment) == NoteSegment && length is > 0 and <= MostNotes)
                {
                    byte[] notes = new byte[length];
                    int have = RandomAccess.Read(file, notes, BinaryPrimitives.ReadInt64LittleEndian(segment[8..]));
                    if (Find(notes.AsSpan(0, have)) is { } id)
                    {
                        return id;
                    }
                }
            }

            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentOutOfRangeException)
        {
            return null;
        }
    }

    // Name and value of a note are padded to four bytes.
    private static string? Find(ReadOnlySpan<byte> notes)
    {
        while (notes.Length >= 12)
        {
            uint nameLength = BinaryPrimitives.ReadUInt32LittleEndian(notes), valueLength = BinaryPrimitives.ReadUInt32LittleEndian(notes[4..]);
            long value = 12 + Padded(nameLength), end = value + Padded(valueLength);
            if (end > notes.Length)
            {
                return null;
            }

            if (BinaryPrimitives.ReadUInt32LittleEndian(notes[8..]) == GnuBuildId && notes.Slice(12, (int)nameLength).SequenceEqual("GNU\0"u8))
            {
                return Convert.ToHexStringLower(notes.Slice((int)value, (int)valueLength));
            }

            notes = notes[(int)end..];
        }

        return null;
    }

    private static long Padded(uint length) => (length + 3L) & ~3L;
}
