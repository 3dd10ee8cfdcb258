using System.Buffers;

namespace MigrationOps.Engine.Vfio;

/// <summary>Keeps a device's state in memory, for states that are known to be small.</summary>
internal sealed class MemorySink : IDeviceStateSink
{
    private readonly ArrayBufferWriter<byte> _data = new();

    /// <summary>The device's raw data in order.</summary>
    public ReadOnlyMemory<byte> Data => _data.WrittenMemory;

    /// <summary>The config state, null before it came.</summary>
    public byte[]? Config { get; private set; }

    /// <inheritdoc/>
    public void Write(ReadOnlySpan<byte> data) => _data.Write(data);

    /// <inheritdoc/>
    public void Complete(ReadOnlySpan<byte> config) => Config = config.ToArray();

    /// <inheritdoc/>
    public void Dispose()
    {
    }
}
