using System.Buffers.Binary;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>The return path on its way in: messages, and the bitmap that follows one of them. Silence is no failure.</summary>
internal sealed class ReturnPathReader(Stream stream)
{
    private readonly byte[] _buffer = new byte[ReturnPathCodec.MaxMessage];
    private int _used;

    /// <summary>The offset of the next byte.</summary>
    internal long Offset { get; private set; }

    /// <summary>Reads the next message.</summary>
    internal ReturnPathMessage ReadMessage()
    {
        while (true)
        {
            var reader = WireReader.BigEndian(_buffer.AsSpan(0, _used), Offset);
            if (ReturnPathCodec.TryRead(ref reader) is { } message)
            {
                Take(reader.Position);
                return message;
            }

            Fill();
        }
    }

    /// <summary>Reads the bitmap behind RECV_BITMAP; memory grows with what comes, not with what is announced.</summary>
    internal byte[] ReadBitmap(string block)
    {
        long start = Offset;
        ulong size = ReadUInt64();
        if (size is 0 or > PostcopyCodec.MaxBitmap || size % 8 != 0)
        {
            throw ReturnPathCodec.Invalid(start, $"The bitmap of '{block}' announces {size:N0} bytes");
        }

        var bitmap = new MemoryStream();
        while (bitmap.Length < (long)size)
        {
            if (_used == 0)
            {
                Fill();
            }

            int count = (int)Math.Min(_used, (long)size - bitmap.Length);
            bitmap.Write(_buffer, 0, count);
            Take(count);
        }

        long end = Offset;
        return ReadUInt64() == PostcopyCodec.BitmapEnd ? bitmap.ToArray()
            : throw ReturnPathCodec.Invalid(end, $"The bitmap of '{block}' does not end with its mark");
    }

    private ulong ReadUInt64()
    {
        while (_used < sizeof(ulong))
        {
            Fill();
        }

        ulong value = BinaryPrimitives.ReadUInt64BigEndian(_buffer);
        Take(sizeof(ulong));
        return value;
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
