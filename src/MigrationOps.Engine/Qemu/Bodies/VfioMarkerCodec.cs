using System.Buffers.Binary;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>The markers of a VFIO device's sections, which <see cref="VfioBody"/> walks.</summary>
internal static class VfioMarkerCodec
{
    /// <summary>Bytes of a marker.</summary>
    internal const int Size = 8;

    /// <summary>Bytes before a block of the device's data: the marker and the length.</summary>
    internal const int DataHeadSize = 16;

    /// <summary>Writes a marker.</summary>
    internal static void Write(Span<byte> destination, VfioMarker marker) => BinaryPrimitives.WriteUInt64BigEndian(destination, (ulong)marker);

    /// <summary>Writes what comes before a block of the device's data.</summary>
    internal static void WriteDataHead(Span<byte> destination, int length)
    {
        Write(destination, VfioMarker.DataState);
        BinaryPrimitives.WriteUInt64BigEndian(destination[Size..], (ulong)length);
    }

    /// <summary>Reads a word where a marker is expected; it may be none of those that are known.</summary>
    internal static bool TryRead(ref WireReader reader, out VfioMarker marker)
    {
        bool isThere = reader.TryReadUInt64(out ulong word);
        marker = (VfioMarker)word;
        return isThere;
    }
}
