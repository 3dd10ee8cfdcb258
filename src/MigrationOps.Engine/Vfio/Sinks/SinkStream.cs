using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>Gives what is written to a device's sink.</summary>
internal sealed class SinkStream(IDeviceStateSink sink) : WriteOnlyStream
{
    protected override void Take(ReadOnlySpan<byte> data) => sink.Write(data);
}

/// <summary>Writes what it takes as data blocks of a marker stream.</summary>
internal sealed class MarkerStream(MarkerWriter writer) : WriteOnlyStream
{
    protected override void Take(ReadOnlySpan<byte> data) => writer.WriteData(data);
}
