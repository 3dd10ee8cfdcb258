using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Vfio;

/// <summary>Writes the marker stream of a VFIO device's sections.</summary>
/// <param name="output">Where it goes; stays the caller's.</param>
internal sealed class MarkerWriter(Stream output)
{
    /// <summary>Writes one marker.</summary>
    public void Write(VfioMarker marker)
    {
        Span<byte> word = stackalloc byte[VfioMarkerCodec.Size];
        VfioMarkerCodec.Write(word, marker);
        output.Write(word);
    }

    /// <summary>Writes the body of the setup section.</summary>
    public void WriteSetup()
    {
        Write(VfioMarker.SetupState);
        Write(VfioMarker.EndOfState);
    }

    /// <summary>Writes a block of the device's data. The section's end mark is not written.</summary>
    public void WriteData(ReadOnlySpan<byte> data)
    {
        Span<byte> head = stackalloc byte[VfioMarkerCodec.DataHeadSize];
        VfioMarkerCodec.WriteDataHead(head, data.Length);
        output.Write(head);
        output.Write(data);
    }

    /// <summary>Writes the body of the last section.</summary>
    /// <param name="config">The config state, both markers included.</param>
    public void WriteConfig(ReadOnlySpan<byte> config) => output.Write(config);
}
