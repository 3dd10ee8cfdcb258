using System.Buffers.Binary;

namespace MigrationOps.Engine.Qemu;

/// <summary>Writes the markers of a VFIO device's sections, what <see cref="VfioBody"/> reads.</summary>
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

    /// <summary>The marker at the start of the bytes.</summary>
    internal static VfioMarker Read(ReadOnlySpan<byte> bytes) => (VfioMarker)BinaryPrimitives.ReadUInt64BigEndian(bytes);
}
