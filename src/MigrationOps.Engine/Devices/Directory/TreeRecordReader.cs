using System.Text;

namespace MigrationOps.Engine.Devices;

/// <summary>Reads the records of a tree, checks each, and has the target do what they say.</summary>
internal sealed class TreeRecordReader(SaveVmLoadStream stream, TreeTarget target)
{
    private static readonly UTF8Encoding Utf8 = new(false, throwOnInvalidBytes: true);

    /// <summary>Reads the first words of the START section.</summary>
    internal void ReadBegin()
    {
        uint magic = stream.ReadUInt32(), version = stream.ReadUInt32();
        if (magic != TreeFormat.Magic || version != TreeFormat.Version)
        {
            throw Invalid($"a directory's section starts with 0x{TreeFormat.Magic:x8} and {TreeFormat.Version}, this one with 0x{magic:x8} and {version}");
        }
    }

    /// <summary>Reads records to the end of the body.</summary>
    internal void ReadBody(byte[] buffer)
    {
        while (true)
        {
            var type = (TreeRecord)stream.ReadByte();
            if (target.IsComplete && type != TreeRecord.EndOfBody)
            {
                throw Invalid($"a record {type} follows the end of the tree");
            }

            switch (type)
            {
                case TreeRecord.EndOfBody:
                    return;
                case TreeRecord.Directory:
                    target.AddDirectory(Text(), Mode(), Time());
                    break;
                case TreeRecord.File:
                    target.BeginFile(Text(), Mode(), Time());
                    Size();
                    break;
                case TreeRecord.Data:
                    ReadData(buffer);
                    break;
                case TreeRecord.FileEnd:
                    long length = Size();
                    var hash = buffer.AsSpan(0, TreeFormat.HashSize);
                    stream.ReadExactly(hash);
                    target.EndFile(length, hash);
                    break;
                case TreeRecord.Link:
                    target.AddLink(Text(), Text());
                    break;
                case TreeRecord.Attributes:
                    target.SetAttributes(Text(), Mode(), Time());
                    break;
                case TreeRecord.Delete:
                    target.Delete(Text());
                    break;
                case TreeRecord.Complete:
                    target.Complete(Size(), Size());
                    break;
                default:
                    throw Invalid($"0x{(byte)type:x2} is not a record type of a directory section");
            }
        }
    }

    private void ReadData(byte[] buffer)
    {
        uint length = stream.ReadUInt32();
        if (length is 0 or > TreeFormat.MaxData)
        {
            throw Invalid($"data record of {length:N0} bytes is out of range");
        }

        var piece = buffer.AsSpan(0, (int)length);
        stream.ReadExactly(piece);
        target.Write(piece);
    }

    private int Mode()
    {
        uint mode = stream.ReadUInt32();
        return mode <= TreeFormat.ModeMask ? (int)mode : throw Invalid($"a mode of 0{Convert.ToString(mode, 8)} is refused");
    }

    private long Time() => unchecked((long)stream.ReadUInt64());

    private long Size()
    {
        ulong size = stream.ReadUInt64();
        return size <= long.MaxValue ? (long)size : throw Invalid($"file size {size:N0} is out of range");
    }

    private string Text()
    {
        byte[] bytes = stream.ReadBytes(stream.ReadUInt16());
        try
        {
            return Utf8.GetString(bytes);
        }
        catch (DecoderFallbackException e)
        {
            throw new DirectoryException(DirectoryError.UnsafePath, $"The stream has a path that is not valid UTF-8, at byte {stream.StreamOffset:N0}.", e)
            { ByteOffset = stream.StreamOffset };
        }
    }

    private DirectoryException Invalid(string what)
        => new(DirectoryError.InvalidRecord, $"The directory section is invalid: {what}, at byte {stream.StreamOffset:N0}.")
        { ByteOffset = stream.StreamOffset };
}
