using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>The screens of a virtio-gpu: their number must be the same. It lies behind the guest's pictures.</summary>
internal static class VirtioScanouts
{
    internal const string FieldType = "virtio-gpu";

    private const int BytesPerPixel = 4;
    private const int BytesPerPiece = 12;

    internal static void Check(Findings findings, string device, string path, byte[] mine, byte[] theirs)
    {
        if (Screens(mine) is { } screens && Screens(theirs) is { } screensThere && screens != screensThere)
        {
            findings.Error(device, $"{path}.max_outputs", "the number of screens must be the same there", $"{screens}", $"{screensThere}");
        }
    }

    private static uint? Screens(byte[] data)
    {
        var reader = WireReader.BigEndian(data, 0);
        while (reader.TryReadUInt32(out uint id))
        {
            if (id == 0)
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
