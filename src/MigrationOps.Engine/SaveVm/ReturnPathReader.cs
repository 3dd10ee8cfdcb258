using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>The return path on its way in: messages, and the bitmap that follows one of them. Silence is no failure.</summary>
internal sealed class ReturnPathReader(Stream stream)
{
    // A message and the piece of a bitmap behind it.
    private readonly byte[] _buffer = new byte[64 << 10];
    private int _used;

    private delegate bool Parser(ref WireReader reader);

    /// <summary>The offset of the next byte.</summary>
    internal long Offset { get; private set; }

    /// <summary>Reads the next message.</summary>
    internal ReturnPathMessage ReadMessage()
    {
        ReturnPathMessage? message = null;
        Read((ref WireReader reader) => ReturnPathCodec.TryRead(ref reader, out message));
        return message!;
    }

    /// <summary>Reads the bitmap behind RECV_BITMAP; memory grows with what comes, not with what is announced.</summary>
    internal byte[] ReadBitmap(string block)
    {
        long size = 0;
        Read((ref WireReader reader) => PostcopyCodec.TryReadBitmapLength(ref reader, block, out size));
        var bitmap = new MemoryStream();
        while (bitmap.Length < size)
        {
            if (_used == 0)
            {
                Fill();
            }

            int count = (int)Math.Min(_used, size - bitmap.Length);
            bitmap.Write(_buffer, 0, count);
            Take(count);
        }

        Read((ref WireReader reader) => PostcopyCodec.TryReadBitmapEnd(ref reader, block));
        return bitmap.ToArray();
    }

    private void Read(Parser parse)
    {
        while (true)
        {
            var reader = WireReader.BigEndian(_buffer.AsSpan(0, _used), Offset);
            if (parse(ref reader))
            {
                Take(reader.Position);
                return;
            }

            Fill();
        }
    }

    private void Take(int count)
    {
        _buffer.AsSpan(count, _used - count).CopyTo(_buffer);
        _used -= count;
        Offset += count;
    }

    private void Fill()
    {
        int count = ReadSome();
        if (count == 0)
        {
            throw new SaveVmException(SaveVmError.ConnectionLost,
                $"The target closed the connection at byte {Offset + _used:N0} of the return path, without saying that it has finished.")
            { Section = "return path", ByteOffset = Offset + _used };
        }

        _used += count;
    }

    private int ReadSome()
    {
        while (true)
        {
            try
            {
                return stream.Read(_buffer, _used, _buffer.Length - _used);
            }
            catch (WireException e) when (e.Reason == WireError.Timeout)
            {
                continue;
            }
        }
    }
}
