using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>The own part of a virtio-gpu: the guest's pictures, and behind them how many screens there are.</summary>
internal static class GpuScreens
{
    private const int BytesPerPixel = 4;
    private const int BytesPerPiece = 12;

    /// <summary>The number of screens; null if the bytes end before it.</summary>
    internal static uint? Count(ReadOnlySpan<byte> data)
    {
        var reader = WireReader.BigEndian(data, 0);
        while (reader.TryReadUInt32(out uint picture))
        {
            if (picture == 0)
            {
                return reader.TryReadUInt32(out _) && reader.TryReadUInt32(out uint screens) ? screens : null;
            }

            if (!reader.TryReadUInt32(out uint width) || !reader.TryReadUInt32(out uint height) || !reader.TryReadUInt32(out _) || !reader.TryReadUInt32(out uint pieces)
                || ((ulong)width * height * BytesPerPixel) + ((ulong)pieces * BytesPerPiece) is var length && length > (ulong)reader.Remaining)
            {
                return null;
            }

            reader.TryReadBytes((int)length, out _);
        }

        return null;
    }
}
