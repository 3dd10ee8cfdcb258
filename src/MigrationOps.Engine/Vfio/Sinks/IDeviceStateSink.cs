namespace MigrationOps.Engine.Vfio;

/// <summary>Takes the state of one device, in order, from one thread at a time.</summary>
internal interface IDeviceStateSink : IDisposable
{
    /// <summary>Takes the next bytes of the device's raw data.</summary>
    void Write(ReadOnlySpan<byte> data);

    /// <summary>Takes the config state, after all data: both markers included.</summary>
    void Complete(ReadOnlySpan<byte> config);
}

/// <summary>Discards the state; the archive keeps the bytes.</summary>
internal sealed class NullSink : IDeviceStateSink
{
    /// <inheritdoc/>
    public void Write(ReadOnlySpan<byte> data)
    {
    }

    /// <inheritdoc/>
    public void Complete(ReadOnlySpan<byte> config)
    {
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }
}
