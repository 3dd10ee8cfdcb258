using System.Security.Cryptography;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vfio;

/// <summary>Loads a device with the state as it comes: RESUMING with the first byte, running again after the last.</summary>
/// <remarks>
/// The config state is compared with the device - vendor, model, class, revision - and not loaded. It is the virtual
/// machine's view of the PCI configuration space: addresses and interrupts of a guest that is not here.
/// </remarks>
internal sealed class DeviceSink : IDeviceStateSink
{
    private readonly VfioDevice _device;
    private readonly FdStream _data;
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly VfioState _afterwards;
    private bool _complete;

    /// <summary>Takes the device into RESUMING. One that holds no whole state, because of an ERROR or of a load that was not ended, is reset first.</summary>
    /// <param name="device">The device; stays the caller's.</param>
    /// <param name="afterwards">The state to go to when everything is loaded.</param>
    /// <param name="scope">Cancellation.</param>
    public DeviceSink(VfioDevice device, VfioState afterwards, TransferScope scope)
    {
        ArgumentNullException.ThrowIfNull(device);
        _device = device;
        _afterwards = afterwards;
        if (device.IsLost)
        {
            device.Reset();
        }

        device.Enter(VfioState.Resuming);
        try
        {
            _data = device.OpenData(FileAccess.Write, scope);
        }
        catch
        {
            device.DropLoad();
            throw;
        }
    }

    /// <summary>SHA-256 of what was loaded, once it is complete.</summary>
    public string? Sha256 { get; private set; }

    /// <inheritdoc/>
    public void Write(ReadOnlySpan<byte> data)
    {
        try
        {
            _data.Write(data);
        }
        catch (WireException e)
        {
            throw new VfioException(VfioError.DataTransferFailed, $"'{_device.Path}' does not take the state: {e.Message}", e)
            { Target = _device.Path };
        }

        _hash.AppendData(data);
    }

    /// <inheritdoc/>
    public void Complete(ReadOnlySpan<byte> config)
    {
        _data.Dispose();
        _device.CheckConfig(config);
        // The driver looks at the state as a whole when RESUMING ends, and refuses it here.
        _device.Enter(_afterwards);
        Sha256 = Convert.ToHexStringLower(_hash.GetHashAndReset());
        _complete = true;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _data.Dispose();
        _hash.Dispose();
        if (!_complete)
        {
            // Half a state must not run. A reset is the one way to a device that is as new.
            _device.DropLoad();
        }
    }
}
